//! The sections of the system as a whole: mainstay, health, recovery, resources, ipc, logs, group.
//! Owns their keys with default, class and availability.
//! Never holds what belongs to one module.

use mainstay_policy::group::{GroupStrategy, OnExceeded};
use mainstay_policy::spec;

use super::choices::{EnforcementPolicy, LogFormat, LogStreams, ReloadMode, Rung};
use super::compound::{Principal, RawMember, RawProbation, RecoveryLadder};
use super::scalars::{
    BoundedInt, ByteSize, DurationValue, Fraction, GrowthFactor, ModuleName, PositiveDuration,
    Template,
};
use super::section;

/// Counts that policy keeps in 32 bits.
pub(crate) type CountOrZero = BoundedInt<0, 1_000_000>;
/// See [`CountOrZero`].
pub(crate) type PositiveCount = BoundedInt<1, 1_000_000>;

section! {
    /// The system as a whole.
    MainstaySection {
        /// Names the socket, the state directory and the service.
        Restart name: ModuleName = ModuleName::new("mainstay");
        /// Where the journal, the last committed plan and the logs are kept. Without it:
        /// `$XDG_STATE_HOME/mainstay/NAME`, or what the platform has instead.
        Restart state_dir: Option<Template> = None;
        /// Where the sockets are. Without it: `$XDG_RUNTIME_DIR/mainstay/NAME`; without that
        /// variable `/run/mainstay/NAME` for root, else a folder of the temporary directory.
        Restart runtime_dir: Option<Template> = None;
        /// Start each module as soon as its dependencies are met; false: one at a time, in a stable
        /// order.
        Live parallel_startup: bool = true;
        /// Pause after each start when not parallel.
        Live module_start_delay: DurationValue = DurationValue::seconds(0);
        /// Timeout of the initial startup of the whole system.
        Live startup_timeout: PositiveDuration = PositiveDuration::seconds(60);
        /// Stop budget: the time for an ordered stop of the whole system, divided among modules.
        Live shutdown_timeout: PositiveDuration = PositiveDuration::seconds(30);
        /// Folders whose `module.toml` registers a module each, relative to the file that says so;
        /// `*` stands for any part of one name.
        Live modules: Vec<String> = Vec::new();
        /// The key that decrypts `[secrets]`: a file that mainstay's user alone may read, or
        /// "keyring:NAME", the kernel's keyring of that user (Linux). Without it: `secret.key` in
        /// the state directory.
        Live secret_key: Option<Template> = None;
        /// "auto": a saved file is applied; "manual": only `mainstay reload` applies it.
        Live reload: ReloadMode = ReloadMode::Auto;
        /// How long the modules that a reload touched are watched before it is committed; the
        /// first failure of one of them rolls it back.
        Live reload_watch: DurationValue = DurationValue::seconds(30);
    }
}

section! {
    /// Intervals and thresholds of probes. Each module and each probe may override them.
    HealthSection {
        /// Interval between two probes.
        Live interval: PositiveDuration = PositiveDuration::seconds(30);
        /// Timeout of one probe.
        Live timeout: PositiveDuration = PositiveDuration::seconds(5);
        /// Failures in a row until a module is unhealthy.
        Live unhealthy_threshold: PositiveCount = BoundedInt(3);
        /// Successes in a row until it is healthy again.
        Live healthy_threshold: PositiveCount = BoundedInt(1);
        /// Delay of the first probe after the start.
        Live initial_delay: DurationValue = DurationValue::seconds(0);
        /// Probe less often on a busy machine: interval × (1 + load), at most × 4.
        Live adaptive: bool = true;
    }
}

section! {
    /// The delay before a restart.
    BackoffSection {
        /// Before the first restart; may be zero.
        Live initial: DurationValue = DurationValue::millis(200);
        /// Growth from one restart to the next.
        Live factor: GrowthFactor = GrowthFactor(2.0);
        /// At most.
        Live max: DurationValue = DurationValue::seconds(10);
        /// The share of the delay that is random.
        Live jitter: Fraction = Fraction(0.1);
        /// At least, from the second failure in a window on.
        Live floor: DurationValue = DurationValue::millis(50);
    }
}

section! {
    /// Restarts after the recovery ladder has ended, one at a time.
    ProbationSection {
        /// Before the first restart.
        Live initial: PositiveDuration = PositiveDuration::seconds(30);
        /// Growth from one restart to the next.
        Live factor: GrowthFactor = GrowthFactor(2.0);
        /// At most.
        Live max: PositiveDuration = PositiveDuration::seconds(300);
    }
}

section! {
    /// Recovery after a failure. Each module may override it.
    RecoverySection {
        /// False: failed modules are not restarted without a request.
        Live auto: bool = true;
        /// Quick restarts within `window` before the next rung of `on_failure`; 0 = unlimited.
        Live max_attempts: CountOrZero = BoundedInt(3);
        /// The sliding window in which attempts are counted.
        Live window: PositiveDuration = PositiveDuration::seconds(300);
        /// The delay between attempts.
        Live backoff: BackoffSection = BackoffSection::default();
        /// A run of this length restores one attempt.
        Live stable_after: PositiveDuration = PositiveDuration::seconds(60);
        /// Restarts of a failed module; "off": it stays failed.
        Live probation: RawProbation = RawProbation::default();
        /// The recovery ladder: strategies, tried in order.
        Live on_failure: RecoveryLadder = RecoveryLadder(vec![spec::Strategy::Restart]);
    }
}

section! {
    /// Recovery of the system as a whole.
    SystemRecoverySection over each: RecoverySection {
        /// Restart tokens: how many restarts may be in progress; 0 = unlimited.
        Live concurrent_restarts: CountOrZero = BoundedInt(4);
        /// When failures are a cascade: what failed and all that depends on it is stopped, until it
        /// is started on request.
        Live cascade: CascadeSection = CascadeSection::default();
    }
}

section! {
    /// When failures are a cascade: at least three modules entered `failed` within the window, and
    /// more than this share of all.
    CascadeSection {
        /// The share of the modules; 1: never.
        Live share: Fraction = Fraction(0.5);
        /// The sliding window.
        Live window: PositiveDuration = PositiveDuration::seconds(60);
    }
}

section! {
    /// How resources are sampled and limited.
    ResourcesSection {
        /// Interval between two samples of all modules.
        Live check_interval: PositiveDuration = PositiveDuration::seconds(10);
        /// How long over a limit before the next rung.
        Live dwell: PositiveDuration = PositiveDuration::seconds(10);
        /// How long below 80 % of all limits before a rung down.
        Live release: PositiveDuration = PositiveDuration::seconds(30);
        /// The rungs of the throttle ladder that are climbed, one after the other: an event, a
        /// lower priority, a hold at the limit, a restart by recovery, a stop.
        Live rungs: Vec<Rung> = vec![Rung::Notice, Rung::Priority, Rung::Cap, Rung::Restart];
        /// The share of the machine's processors or memory above which the least important modules
        /// are throttled.
        Live throttle_threshold: Fraction = Fraction(0.9);
        /// Whether mainstay starts although this machine cannot enforce a limit of a module.
        Live enforcement: EnforcementPolicy = EnforcementPolicy::BestEffort;
    }
}

section! {
    /// What a run did just before it was killed because it hung, was over a limit or did not stop:
    /// threads, descriptors, memory, the end of its log, in the folder `forensics` of the state
    /// directory.
    ForensicsSection {
        /// Bundles that are kept; 0: none is written.
        Live keep: CountOrZero = BoundedInt(20);
        /// Bytes of all of them.
        Live max_bytes: ByteSize = ByteSize(20 << 20);
    }
}

section! {
    /// Faults on request, to try what recovery does.
    ChaosSection {
        /// Let administrators inject faults with `mainstay chaos`.
        Live allowed: bool = false;
    }
}

section! {
    /// Who may use the local socket, and how fast.
    IpcSection {
        /// Who may observe.
        Live observers: Vec<Principal> = vec![Principal::User];
        /// Who may start, stop and restart.
        Live operators: Vec<Principal> = vec![Principal::User];
        /// Who may change the configuration and stop the system.
        Live admins: Vec<Principal> = vec![Principal::User];
        /// Changing requests and calls of one user or module, over all its connections. A user may
        /// make 64 at once in any case: a command that names 32 modules needs them.
        Live requests_per_second: PositiveCount = BoundedInt(200);
    }
}

section! {
    /// The output of modules.
    LogsSection {
        /// The folder of the files; relative to the state directory.
        Restart directory: Template = Template("logs".to_owned());
        /// A file is rotated at this size.
        Live max_bytes: ByteSize = ByteSize(10 << 20);
        /// Rotated files that are kept beside the current one.
        Live keep: BoundedInt<0, 1000> = BoundedInt(5);
        /// Text is kept as it is; "json" parses lines that are JSON objects.
        Live format: LogFormat = LogFormat::Text;
        /// "split": stdout and stderr of a module are told apart, from its next start on; a line of
        /// one may stand before an earlier line of the other. "merged": all is in its order.
        Live streams: LogStreams = LogStreams::Merged;
    }
}

section! {
    /// A supervision group: modules that restart together, and how often they may.
    GroupSection {
        /// Modules, or `group:NAME`; each in one group at most. "rest_for_one" follows their order.
        Live members: Vec<RawMember> = Vec::new();
        /// Which members restart when one fails: that one, all, or that one and those after it.
        Live strategy: GroupStrategy = GroupStrategy::OneForOne;
        /// Restarts of members within `within`; one more is too many, and `on_exceeded` applies.
        Live max_restarts: CountOrZero = BoundedInt(5);
        /// The sliding window.
        Live within: PositiveDuration = PositiveDuration::seconds(30);
        /// What follows then. "escalate": the group restarts as one member of the group that
        /// contains it. Default: "escalate" in a group, else "stop_group".
        Live on_exceeded: Option<OnExceeded> = None;
    }
}
