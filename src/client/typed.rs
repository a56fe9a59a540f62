//! The typed calls, written once for the blocking and the async client.
//! Owns which method, parameters and result belong together on the client's side.
//! Never touches bytes: each call goes through the client's own `call_within`.

use std::time::Duration;

use mainstay_protocol::method::{ChangeParams, Hello, PageParams, Welcome};
use mainstay_protocol::{ErrorCode, PROTOCOL};

use crate::{Error, WAIT_TIMEOUT};

/// What this crate says in `hello`.
pub(crate) fn client_hello() -> Hello {
    Hello {
        client: concat!("mainstay-client ", env!("CARGO_PKG_VERSION")).to_owned(),
        protocol: PROTOCOL,
        token: None,
    }
}

pub(crate) fn check_welcome(welcome: Welcome) -> Result<Welcome, Error> {
    if welcome.protocol == PROTOCOL {
        return Ok(welcome);
    }
    Err(Error::OtherProtocol {
        server: welcome.server,
        theirs: welcome.protocol,
    })
}

/// Modules that are asked for at a time when all of them are too many for a line.
const PAGE: usize = 1000;

/// Whether mainstay has more to say than a line holds.
pub(crate) fn is_too_long(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.data.code == ErrorCode::TooLong)
}

pub(crate) fn next_page(after: Option<&String>) -> PageParams {
    PageParams {
        after: after.cloned(),
        limit: Some(PAGE),
    }
}

/// How long a change may take: one that waits for its end takes as long as modules do.
pub(crate) fn change_timeout(params: &ChangeParams, usual: Duration) -> Duration {
    if params.wait {
        usual.max(WAIT_TIMEOUT)
    } else {
        usual
    }
}

/// Defines the typed calls; `typed_calls!()` for blocking ones, `typed_calls!((async await))`.
macro_rules! typed_calls {
    ($(($async:tt $await:tt))?) => {
        /// Calls any method and waits for its reply as long as this client waits.
        ///
        /// # Errors
        /// Every [`Error`] but those of connecting.
        pub $($async)? fn call<R: DeserializeOwned>(
            &mut self,
            method: &str,
            params: impl Serialize,
        ) -> Result<R, Error> {
            self.call_within(method, params, self.timeout) $(.$await)?
        }

        /// How the system is.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn status(&mut self) -> Result<SystemView, Error> {
            self.call(name::SYSTEM_STATUS, Empty {}) $(.$await)?
        }

        /// Every module, read in parts where one line is too short for all of them.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn modules(&mut self) -> Result<Vec<ModuleView>, Error> {
            match self.call(name::MODULE_LIST, Empty {}) $(.$await)? {
                Err(error) if is_too_long(&error) => {}
                all => return all,
            }
            let mut all: Vec<ModuleView> = Vec::new();
            loop {
                let page = next_page(all.last().map(|last| &last.module));
                let page: Vec<ModuleView> = self.call(name::MODULE_LIST, page) $(.$await)? ?;
                if page.is_empty() {
                    return Ok(all);
                }
                all.extend(page);
            }
        }

        /// One module.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn module(&mut self, module: &str) -> Result<ModuleView, Error> {
            self.call(name::MODULE_GET, named(module)) $(.$await)?
        }

        /// Starts a module and what it needs.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn start(&mut self, params: &ChangeParams) -> Result<ChangeResult, Error> {
            self.change(name::MODULE_START, params) $(.$await)?
        }

        /// Stops a module and what needs it.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn stop(&mut self, params: &ChangeParams) -> Result<ChangeResult, Error> {
            self.change(name::MODULE_STOP, params) $(.$await)?
        }

        /// Restarts a module.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn restart(&mut self, params: &ChangeParams) -> Result<ChangeResult, Error> {
            self.change(name::MODULE_RESTART, params) $(.$await)?
        }

        /// Accepts the recovery that is proposed for a failed module.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn accept_recovery(
            &mut self,
            params: &ChangeParams,
        ) -> Result<ChangeResult, Error> {
            self.change(name::RECOVERY_ACCEPT, params) $(.$await)?
        }

        /// `module.start`, `module.stop` or `module.restart`, by name. With `wait` it is given
        /// up to [`crate::WAIT_TIMEOUT`].
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn change(
            &mut self,
            method: &str,
            params: &ChangeParams,
        ) -> Result<ChangeResult, Error> {
            let timeout = change_timeout(params, self.timeout);
            self.call_within(method, params, timeout) $(.$await)?
        }

        /// Begins the ordered stop of the system.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn stop_system(&mut self, params: &StopParams) -> Result<(), Error> {
            let done: Result<IgnoredAny, Error> = self.call(name::SYSTEM_STOP, params) $(.$await)?;
            done.map(|_| ())
        }

        /// Events of the past, oldest first.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn events(&mut self, params: &EventsParams) -> Result<Vec<Event>, Error> {
            let result: EventsResult = self.call(name::EVENTS_LIST, params) $(.$await)? ?;
            Ok(result.events)
        }

        /// Follows events; with `since` the later ones of the past come first.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn subscribe(
            mut self,
            params: &EventsParams,
        ) -> Result<(SubscribeResult, Subscription<Event>), Error> {
            let subscribed = self.call(name::EVENTS_SUBSCRIBE, params) $(.$await)? ?;
            Ok((subscribed, self.follow()))
        }

        /// The newest lines of a module's output. With `follow` the rest come as notifications:
        /// see [`Client::follow`].
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn logs(&mut self, params: &LogsParams) -> Result<LogLines, Error> {
            self.call(name::LOGS_READ, params) $(.$await)?
        }

        /// Why a module is as it is, and what happens next.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn why(&mut self, module: &str) -> Result<WhyResult, Error> {
            let params = WhyParams { module: module.to_owned(), full: false };
            self.call(name::WHY, params) $(.$await)?
        }

        /// Who depends on whom, read in parts where one line is too short for all of it.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn graph(&mut self) -> Result<GraphView, Error> {
            match self.call(name::GRAPH, Empty {}) $(.$await)? {
                Err(error) if is_too_long(&error) => {}
                all => return all,
            }
            let mut all = GraphView { modules: Vec::new(), edges: Vec::new() };
            loop {
                let page = next_page(all.modules.last().map(|last| &last.module));
                let page: GraphView = self.call(name::GRAPH, page) $(.$await)? ?;
                if page.modules.is_empty() {
                    return Ok(all);
                }
                all.modules.extend(page.modules);
                all.edges.extend(page.edges);
            }
        }

        /// The configuration in force at or below a path, and where each value was said; ""
        /// is everything.
        ///
        /// # Errors
        /// As [`Client::call`].
        pub $($async)? fn config(&mut self, path: &str) -> Result<Vec<ConfigValue>, Error> {
            let path = (!path.is_empty()).then(|| path.to_owned());
            let params = ConfigGetParams { path };
            let result: ConfigValues = self.call(name::CONFIG_GET, params) $(.$await)? ?;
            Ok(result.values)
        }

        /// What mainstay answered to `hello`: its version, and what this connection may do.
        #[must_use]
        pub fn welcome(&self) -> &Welcome {
            &self.welcome
        }

        /// Waits this long for replies instead of [`crate::CALL_TIMEOUT`].
        #[must_use]
        pub fn with_timeout(mut self, timeout: Duration) -> Client {
            self.timeout = timeout;
            self
        }

        /// Notifications that were dropped because they came faster than they were taken while
        /// this client waited for replies.
        #[must_use]
        pub fn dropped_notifications(&self) -> u64 {
            self.connection.dropped()
        }

        /// Turns this connection to following what it subscribed to: [`Event`] or [`LogLines`].
        #[must_use]
        pub fn follow<T: NotificationPayload>(self) -> Subscription<T> {
            Subscription { client: self, ended: false, followed: PhantomData }
        }
    };
}
pub(crate) use typed_calls;

pub(crate) fn named(module: &str) -> mainstay_protocol::method::ModuleParams {
    mainstay_protocol::method::ModuleParams {
        module: module.to_owned(),
    }
}

/// Who this connection is before mainstay has said so: nobody.
pub(crate) fn placeholder_welcome() -> Welcome {
    Welcome {
        server: String::new(),
        protocol: PROTOCOL,
        level: mainstay_protocol::AccessLevel::Module,
        module: None,
    }
}
