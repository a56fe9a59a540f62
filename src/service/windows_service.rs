//! mainstay as a process of the Windows service manager, and how that is asked.
//! Owns the status that Windows shows: it follows what the runtime reports.
//! Never installs anything: `windows` has the commands.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mainstay_holder::RuntimeCommand;
use windows_service::service::{
    ServiceAccess, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState as State,
    ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{
    ServiceControlHandlerResult, ServiceStatusHandle, register,
};
use windows_service::service_manager::{ServiceManager as Manager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};

use super::perform::{ServiceManager, ServiceState};
use super::{Scope, ServiceCommand};

/// What the runtime finds in place of a socket.
const NOTIFY: &str = "service-control-manager";
/// What Windows waits for a next status when the runtime has not said more.
const WAIT_HINT: Duration = Duration::from_secs(30);
/// ERROR_SERVICE_DOES_NOT_EXIST
const MISSING: i32 = 1060;

/// What the entry function of a service cannot be passed.
static RUNTIME: Mutex<Option<RuntimeCommand>> = Mutex::new(None);
static STATUS: OnceLock<ServiceStatusHandle> = OnceLock::new();

define_windows_service!(entry, service_main);

/// Serves as the process of a service until it has stopped.
///
/// # Errors
/// In a sentence: Windows did not start this process as a service.
pub(crate) fn serve(name: &str, mut runtime: RuntimeCommand) -> Result<(), String> {
    runtime.env.push(("NOTIFY_SOCKET".into(), NOTIFY.into()));
    *RUNTIME.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    service_dispatcher::start(name, entry).map_err(|error| {
        format!(
            "cannot run as a service: {}; Windows starts this verb",
            text(&error)
        )
    })
}

fn service_main(_: Vec<std::ffi::OsString>) {
    let Some(runtime) = RUNTIME
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    else {
        return;
    };
    let Ok(handle) = register("mainstay", |control| match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => {
            report(State::StopPending, WAIT_HINT, 0);
            mainstay_holder::request_stop();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }) else {
        return;
    };
    let _only_once = STATUS.set(handle);
    report(State::StartPending, WAIT_HINT, 0);
    mainstay_holder::on_service_report(follow);
    let code = mainstay_holder::run(runtime).unwrap_or(1);
    report(State::Stopped, Duration::ZERO, code);
}

/// Shows what the runtime reports in the form of sd_notify(3).
fn follow(message: &str) {
    let value = |key: &str| {
        let mut lines = message.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let more = value("EXTEND_TIMEOUT_USEC").and_then(|time| time.parse().ok());
    let hint = more.map_or(WAIT_HINT, Duration::from_micros);
    match (value("READY"), value("STOPPING")) {
        (Some(_), _) => report(State::Running, Duration::ZERO, 0),
        (_, Some(_)) => report(State::StopPending, hint, 0),
        _ if more.is_some() => report(State::StartPending, hint, 0),
        _ => {}
    }
}

fn report(state: State, wait_hint: Duration, code: u8) {
    let Some(handle) = STATUS.get() else {
        return;
    };
    let accepts = match state {
        State::Stopped | State::StopPending => ServiceControlAccept::empty(),
        _ => ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN,
    };
    let is_pending = matches!(state, State::StartPending | State::StopPending);
    let _gone = handle.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepts,
        exit_code: match code {
            0 => ServiceExitCode::Win32(0),
            code => ServiceExitCode::ServiceSpecific(code.into()),
        },
        checkpoint: u32::from(is_pending),
        wait_hint,
        process_id: None,
    });
}

/// The service manager of Windows.
#[derive(Debug)]
pub(crate) struct Scm(());

impl Scm {
    /// Finds it.
    ///
    /// # Errors
    /// In a sentence: Windows has no services for one user.
    pub(crate) fn find(scope: Scope) -> Result<Scm, String> {
        match scope {
            Scope::System => Ok(Scm(())),
            Scope::User => Err(super::PathError::NoUserServices.to_string()),
        }
    }
}

impl ServiceManager for Scm {
    fn state(&self, unit: &str) -> Result<ServiceState, String> {
        let cannot = |error: windows_service::Error| format!("cannot look at it: {}", text(&error));
        let manager = Manager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT);
        let manager = manager.map_err(cannot)?;
        let service = match manager.open_service(unit, ServiceAccess::QUERY_STATUS) {
            Ok(service) => service,
            Err(windows_service::Error::Winapi(error)) if error.raw_os_error() == Some(MISSING) => {
                return Ok(ServiceState {
                    state: "not installed".to_owned(),
                    ..ServiceState::default()
                });
            }
            Err(error) => return Err(cannot(error)),
        };
        let status = service.query_status().map_err(cannot)?;
        Ok(ServiceState {
            state: format!("{:?}", status.current_state).to_lowercase(),
            pid: status.process_id.filter(|pid| *pid != 0),
            enabled: true,
        })
    }

    fn log(&self, _: &str, _: &str) -> Option<ServiceCommand> {
        None
    }
}

/// What Windows said.
fn text(error: &windows_service::Error) -> String {
    match error {
        windows_service::Error::Winapi(error) => error.to_string(),
        other => other.to_string(),
    }
}
