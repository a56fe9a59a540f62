//! The sections of the system as a whole: mainstay, health, recovery, resources, ipc, logs, group.
//! Owns their keys with default, class and availability.
//! Never holds what belongs to one module.

use mainstay_policy::spec;

use super::shapes::{Ladder, Probation, Who};
use super::values::{Bytes, Factor, Filled, LongSpan, Name, Share, Span, Whole};
use super::words::{self, LogFormat};
use super::{Form, Value, later_section, section};

/// Counts that policy keeps in 32 bits.
pub(crate) type Count = Whole<0, 1_000_000>;
/// See [`Count`].
pub(crate) type Some1 = Whole<1, 1_000_000>;

const SPAN: Form = Form::Span { zero: false };
const SHARE: Form = Share::FORM;

section! {
    /// The system as a whole.
    Mainstay {
        /// Names the socket, the state directory and the service.
        Restart name: Name = Name::new("mainstay");
        /// Where the journal, the last committed plan and the logs are kept. Without it:
        /// `$XDG_STATE_HOME/mainstay/NAME`, or what the platform has instead.
        Restart state_dir: Option<Filled> = None;
        /// Where the sockets are. Without it: `$XDG_RUNTIME_DIR/mainstay/NAME`; without that
        /// variable `/run/mainstay/NAME` for root, else a folder of the temporary directory.
        Restart runtime_dir: Option<Filled> = None;
        /// Start each module as soon as its dependencies are met; false: one at a time, in a stable
        /// order.
        Live parallel_startup: bool = true;
        /// Pause after each start when not parallel.
        Live module_start_delay: Span = Span::seconds(0);
        /// Timeout of the initial startup of the whole system.
        Live startup_timeout: LongSpan = LongSpan::seconds(60);
        /// Stop budget: the time for an ordered stop of the whole system, divided among modules.
        Live shutdown_timeout: LongSpan = LongSpan::seconds(30);
        /// Folders whose `module.toml` registers a module each, relative to the file that says so;
        /// `*` stands for any part of one name.
        Live modules: Vec<String> = Vec::new();
    }
    later {
        /// Whether a saved file is applied without a request.
        Live reload: words::RELOAD, "\"auto\"";
        /// How long a reload is watched before it is committed.
        Live reload_watch: SPAN, "\"30s\"";
    }
}

section! {
    /// Intervals and thresholds of probes. Each module and each probe may override them.
    Health {
        /// Interval between two probes.
        Live interval: LongSpan = LongSpan::seconds(30);
        /// Timeout of one probe.
        Live timeout: LongSpan = LongSpan::seconds(5);
        /// Failures in a row until a module is unhealthy.
        Live unhealthy_threshold: Some1 = Whole(3);
        /// Successes in a row until it is healthy again.
        Live healthy_threshold: Some1 = Whole(1);
        /// Delay of the first probe after the start.
        Live initial_delay: Span = Span::seconds(0);
    }
    later {
        /// Probe less often on a busy machine: interval × (1 + load), at most × 4.
        Live adaptive: Form::Flag, "true";
    }
}

section! {
    /// The delay before a restart.
    Backoff {
        /// Before the first restart; may be zero.
        Live initial: Span = Span::millis(200);
        /// Growth from one restart to the next.
        Live factor: Factor = Factor(2.0);
        /// At most.
        Live max: Span = Span::seconds(10);
        /// The share of the delay that is random.
        Live jitter: Share = Share(0.1);
        /// At least, from the second failure in a window on.
        Live floor: Span = Span::millis(50);
    }
}

section! {
    /// Restarts after the recovery ladder has ended, one at a time.
    ProbationTimes {
        /// Before the first restart.
        Live initial: LongSpan = LongSpan::seconds(30);
        /// Growth from one restart to the next.
        Live factor: Factor = Factor(2.0);
        /// At most.
        Live max: LongSpan = LongSpan::seconds(300);
    }
}

section! {
    /// Recovery after a failure. Each module may override it.
    Recovery {
        /// False: failed modules are not restarted without a request.
        Live auto: bool = true;
        /// Quick restarts within `window` before the next rung of `on_failure`; 0 = unlimited.
        Live max_attempts: Count = Whole(3);
        /// The sliding window in which attempts are counted.
        Live window: LongSpan = LongSpan::seconds(300);
        /// The delay between attempts.
        Live backoff: Backoff = Backoff::default();
        /// A run of this length restores one attempt.
        Live stable_after: LongSpan = LongSpan::seconds(60);
        /// Restarts of a failed module; "off": it stays failed.
        Live probation: Probation = Probation::default();
        /// The recovery ladder: strategies, tried in order.
        Live on_failure: Ladder = Ladder(vec![spec::Strategy::Restart]);
    }
}

section! {
    /// Recovery of the system as a whole.
    SystemRecovery over each: Recovery {
        /// Restart tokens: how many restarts may be in progress; 0 = unlimited.
        Live concurrent_restarts: Count = Whole(4);
    }
    later {
        /// More than this share of the modules failed within the window: stop the branch.
        Live cascade: Form::Table(CASCADE), "{ share = 0.5, window = \"60s\" }";
    }
}

later_section! {
    /// When failures count as a cascade.
    CASCADE {
        /// The share of the modules.
        Live share: SHARE, "0.5";
        /// The window.
        Live window: SPAN, "\"60s\"";
    }
}

section! {
    /// How resources are sampled and limited.
    Resources {
        /// Interval between two samples of all modules.
        Live check_interval: LongSpan = LongSpan::seconds(10);
    }
    later {
        /// How long over a limit before the next rung.
        Live dwell: SPAN, "\"10s\"";
        /// How long below 80 % of a limit before a rung down.
        Live release: SPAN, "\"30s\"";
        /// The rungs of the ladder that are climbed.
        Live rungs: Form::List(&words::RUNGS), "[\"notice\", \"priority\", \"cap\", \"restart\"]";
        /// The share of the machine above which the least important modules are throttled.
        Live throttle_threshold: SHARE, "0.9";
        /// Whether a module starts whose limits this machine cannot enforce.
        Live enforcement: words::ENFORCEMENT, "\"best_effort\"";
    }
}

section! {
    /// Who may use the local socket, and how fast.
    Ipc {
        /// Who may observe.
        Live observers: Vec<Who> = vec![Who::User];
        /// Who may start, stop and restart.
        Live operators: Vec<Who> = vec![Who::User];
        /// Who may change the configuration and stop the system.
        Live admins: Vec<Who> = vec![Who::User];
        /// Changing requests and calls of one user or module, over all its connections.
        Live requests_per_second: Some1 = Whole(200);
    }
}

section! {
    /// The output of modules.
    Logs {
        /// The folder of the files; relative to the state directory.
        Restart directory: Filled = Filled("logs".to_owned());
        /// A file is rotated at this size.
        Live max_bytes: Bytes = Bytes(10 << 20);
        /// Rotated files that are kept beside the current one.
        Live keep: Whole<0, 1000> = Whole(5);
        /// Text is kept as it is; "json" parses lines that are JSON objects.
        Live format: LogFormat = LogFormat::Text;
    }
}

later_section! {
    /// Modules that are restarted together.
    GROUP {
        /// Modules, or `group:NAME`.
        Live members: Form::List(&Form::Text), "[]";
        /// Which members are restarted with a failed one.
        Live strategy: words::GROUP_STRATEGY, "\"one_for_one\"";
        /// Restarts within `within` before `on_exceeded` applies.
        Live max_restarts: Form::Whole { min: 0, max: 1_000_000 }, "5";
        /// The window.
        Live within: SPAN, "\"30s\"";
        /// What happens after that.
        Live on_exceeded: words::ON_EXCEEDED, "\"escalate\"";
    }
}
