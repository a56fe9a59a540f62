//! What each user and each module spends: connections, changing requests, refused requests.
//! Owns one account for every principal, over all of its connections and from one to the next.
//! Never lets one principal spend the share of another; never reads a clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_policy::rate_limit::TokenBucket;
use mainstay_policy::{ModuleId, MonoTime};
use mainstay_protocol::MAX_LINE_BYTES;
use tokio::sync::Semaphore;

use crate::bus::line_queue::SharedLimit;

/// Connections of one user on the control socket.
const USER_CONNECTIONS_MAX: u32 = 256;
/// Connections of one module: its processes, and connections of its last run that are closing.
const MODULE_CONNECTIONS_MAX: u32 = 8;
/// Connections of all users on the control socket.
const CONTROL_CONNECTIONS_MAX: u32 = 512;
/// Connections of these that only administrators get.
const ADMIN_RESERVE: u32 = 32;
/// Changing requests that a user may make in a burst, however few a second are allowed: one command
/// that changes 32 modules checks each and then changes it.
const USER_BURST_MIN: u32 = 64;
/// Refused requests in a burst before the connection is closed.
const REFUSALS_BURST: u32 = 32;
/// Refused requests a second after the burst.
const REFUSALS_PER_SECOND: f64 = 4.0;
/// Bytes of one principal in unfinished lines.
const UNFINISHED_MAX: usize = 4 * MAX_LINE_BYTES;
/// Bytes of one principal in results and in lines that wait to be written.
const UNWRITTEN_MAX: usize = 8 * MAX_LINE_BYTES;
/// More of them for its connections that read what they are sent.
const READERS_MAX: usize = 2 * MAX_LINE_BYTES;
/// Subscriptions and logs that one principal may follow at a time, over all its connections.
pub(crate) const STREAMS_MAX: usize = 256;
/// Accounts that are kept; more principals than that share one account.
const ACCOUNTS_MAX: usize = 4096;
/// The first interval between two records of refusals; it doubles while they go on.
const REPORT_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest interval.
const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// The holder of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Principal {
    /// A user of the machine, outside of all modules.
    User(u32),
    /// A module that showed the token of its run.
    Module(ModuleId),
    /// A peer that did not prove to be any of these: inside a module without a token, exited, or
    /// without credentials. The user id, if there is one.
    Unverified(Option<u32>),
    /// The embedding application.
    Application,
    /// All principals for which there was no space.
    Overflow,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The principal has as many as it may have.
    OfPrincipal(u32),
    /// All users together have as many as there are; the rest is for administrators.
    InTotal(u32),
}

/// All accounts.
#[derive(Default)]
pub(crate) struct Accounts {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    accounts: HashMap<Principal, Account>,
    /// Connections of users.
    control_connections: u32,
}

struct Account {
    /// None: it made no request yet.
    requests: Option<TokenBucket>,
    refusals: TokenBucket,
    connections: u32,
    reports: RefusalReports,
    memory: MemoryShare,
}

/// What the connections of one principal may keep in memory together. A connection that has bytes
/// of an unfinished line waits for room for a result: these two must not be one limit.
#[derive(Clone)]
pub(crate) struct MemoryShare {
    /// A permit for each byte of an unfinished line: without one the connection is closed.
    pub(crate) unfinished: Arc<Semaphore>,
    /// A permit for each byte that waits to be written: the next request waits for one.
    pub(crate) unwritten: SharedLimit,
    /// The one log that is read for it at a time.
    pub(crate) log_reads: Arc<Semaphore>,
    /// A permit for each subscription and each log that is followed: what was not read yet of each
    /// is kept.
    pub(crate) streams: Arc<Semaphore>,
}

impl Default for MemoryShare {
    fn default() -> MemoryShare {
        MemoryShare {
            unfinished: Arc::new(Semaphore::new(UNFINISHED_MAX)),
            unwritten: SharedLimit {
                all: Arc::new(Semaphore::new(UNWRITTEN_MAX)),
                readers: Arc::new(Semaphore::new(READERS_MAX)),
            },
            log_reads: Arc::new(Semaphore::new(1)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Account {
    fn new() -> Account {
        Account {
            requests: None,
            refusals: TokenBucket::new(REFUSALS_BURST, REFUSALS_PER_SECOND),
            connections: 0,
            reports: RefusalReports::default(),
            memory: MemoryShare::default(),
        }
    }

    /// Whether a new account would be the same.
    fn is_unused(&mut self, now: MonoTime) -> bool {
        self.connections == 0
            && self.reports.is_idle(now)
            && self.requests.as_mut().is_none_or(|it| it.is_full(now))
            && self.refusals.is_full(now)
    }
}

/// When the refusals of a principal are reported: the first at once, later ones as a count.
#[derive(Default)]
struct RefusalReports {
    unreported: u64,
    interval: Duration,
    next: Option<MonoTime>,
}

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Record it now.
    Now,
    /// Record it and those that follow when this time has passed: see [`Accounts::take_refusals`].
    After(Duration),
    /// A record that is due already will count it.
    Counted,
}

impl RefusalReports {
    fn is_idle(&self, now: MonoTime) -> bool {
        let quiet = |next: MonoTime| now >= next.after(REPORT_INTERVAL_MAX);
        self.unreported == 0 && self.next.is_none_or(quiet)
    }

    fn refused(&mut self, now: MonoTime) -> Report {
        if self.is_idle(now) {
            self.interval = REPORT_INTERVAL_MIN;
            self.next = Some(now.after(self.interval));
            return Report::Now;
        }
        self.unreported += 1;
        if self.unreported > 1 {
            return Report::Counted;
        }
        let next = self.next.unwrap_or(now).max(now);
        self.interval = (self.interval * 2).clamp(REPORT_INTERVAL_MIN, REPORT_INTERVAL_MAX);
        self.next = Some(next.after(self.interval));
        Report::After(next.since(now))
    }
}

impl Accounts {
    /// Admits a connection of a principal; the permit counts it until it is dropped.
    ///
    /// # Errors
    /// When the principal, or all users together, have as many as they may have.
    pub(crate) fn connect(
        self: &Arc<Self>,
        principal: Principal,
        is_admin: bool,
        now: MonoTime,
    ) -> Result<ConnectionPermit, TooMany> {
        let mut table = self.lock();
        let of_user = matches!(principal, Principal::User(_));
        let reserve = if is_admin { 0 } else { ADMIN_RESERVE };
        let total_max = CONTROL_CONNECTIONS_MAX - reserve;
        if of_user && table.control_connections >= total_max {
            return Err(TooMany::InTotal(total_max));
        }
        let max = if of_user {
            USER_CONNECTIONS_MAX
        } else {
            MODULE_CONNECTIONS_MAX
        };
        let (key, account) = table.account(principal, now);
        if account.connections >= max {
            return Err(TooMany::OfPrincipal(max));
        }
        account.connections += 1;
        let memory = account.memory.clone();
        table.control_connections += u32::from(of_user);
        Ok(ConnectionPermit {
            accounts: Arc::clone(self),
            key,
            of_user,
            memory,
        })
    }

    /// Takes one changing request from the allowance of a principal, which is this number a
    /// second and at once, of a user at least [`USER_BURST_MIN`] at once; false: none is left.
    pub(crate) fn take_request(
        &self,
        principal: Principal,
        per_second: u32,
        now: MonoTime,
    ) -> bool {
        let mut table = self.lock();
        let (key, account) = table.account(principal, now);
        let burst = match key {
            Principal::User(_) => per_second.max(USER_BURST_MIN),
            _ => per_second,
        };
        let full = || TokenBucket::new(burst, f64::from(per_second));
        let requests = account.requests.get_or_insert_with(full);
        requests.resize(burst, f64::from(per_second), now);
        requests.try_take(now)
    }

    /// Takes one refusal from the allowance of a principal; false: none is left, and the
    /// connection is to be closed.
    pub(crate) fn take_refusal(&self, principal: Principal, now: MonoTime) -> bool {
        let mut table = self.lock();
        let (_, account) = table.account(principal, now);
        account.refusals.try_take(now)
    }

    /// Whether a principal has been refused so often that it is not admitted for now.
    pub(crate) fn is_exhausted(&self, principal: Principal, now: MonoTime) -> bool {
        let mut table = self.lock();
        let (_, account) = table.account(principal, now);
        !account.refusals.has_token(now)
    }

    /// Says when to record a refusal of a principal.
    pub(crate) fn report(&self, principal: Principal, now: MonoTime) -> Report {
        let mut table = self.lock();
        let (_, account) = table.account(principal, now);
        account.reports.refused(now)
    }

    /// Returns the number of refusals to record after [`Report::After`].
    pub(crate) fn take_refusals(&self, principal: Principal, now: MonoTime) -> u64 {
        let mut table = self.lock();
        let (_, account) = table.account(principal, now);
        std::mem::take(&mut account.reports.unreported)
    }

    /// Ignores poisoning: a thread that died here leaves numbers.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn account(&mut self, principal: Principal, now: MonoTime) -> (Principal, &mut Account) {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(&principal) {
            self.accounts.retain(|_, account| !account.is_unused(now));
        }
        let is_full = self.accounts.len() >= ACCOUNTS_MAX;
        let key = if is_full && !self.accounts.contains_key(&principal) {
            Principal::Overflow
        } else {
            principal
        };
        let account = self.accounts.entry(key);
        (key, account.or_insert_with(Account::new))
    }
}

/// A connection that is counted.
pub(crate) struct ConnectionPermit {
    accounts: Arc<Accounts>,
    key: Principal,
    of_user: bool,
    /// Shared with the other connections of the principal.
    pub(crate) memory: MemoryShare,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut table = self.accounts.lock();
        table.control_connections -= u32::from(self.of_user);
        if let Some(account) = table.accounts.get_mut(&self.key) {
            account.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Principal = Principal::User(1000);
    const MODULE: Principal = Principal::Module(ModuleId(3));

    fn at(seconds: u64) -> MonoTime {
        MonoTime(0).after(Duration::from_secs(1_000_000 + seconds))
    }

    #[test]
    fn a_module_gets_few_connections_and_takes_none_of_another() {
        let accounts = Arc::new(Accounts::default());
        let open = |principal| accounts.connect(principal, false, at(0));
        let mut held: Vec<_> = (0..MODULE_CONNECTIONS_MAX).map(|_| open(MODULE)).collect();
        assert!(held.iter().all(Result::is_ok));
        let refused = open(MODULE).err();
        assert_eq!(refused, Some(TooMany::OfPrincipal(MODULE_CONNECTIONS_MAX)));
        assert!(open(Principal::Module(ModuleId(4))).is_ok());
        held.pop();
        assert!(open(MODULE).is_ok(), "a closed connection is free again");
    }

    #[test]
    fn a_command_of_a_user_fits_into_the_smallest_allowance_and_a_flood_does_not() {
        let accounts = Arc::new(Accounts::default());
        let taken = |principal, seconds| {
            let all = 0..1000;
            all.filter(|_| accounts.take_request(principal, 1, at(seconds)))
                .count()
        };
        assert_eq!(taken(USER, 0), USER_BURST_MIN as usize);
        assert_eq!(taken(USER, 3), 3, "then the rate");
        assert_eq!(taken(MODULE, 0), 1, "a module gets what is configured");
    }

    #[test]
    fn the_last_connections_are_for_administrators() {
        let accounts = Arc::new(Accounts::default());
        let open = |user, is_admin| accounts.connect(Principal::User(user), is_admin, at(0));
        let taken: Vec<_> = (0..CONTROL_CONNECTIONS_MAX - ADMIN_RESERVE)
            .map(|n| open(n % 3, false))
            .collect();
        assert!(taken.iter().all(Result::is_ok));
        assert!(matches!(open(9, false).err(), Some(TooMany::InTotal(_))));
        let module = accounts.connect(MODULE, false, at(0));
        assert!(module.is_ok(), "it is not a user");
        let admins: Vec<_> = (0..ADMIN_RESERVE).map(|_| open(0, true)).collect();
        assert!(admins.iter().all(Result::is_ok));
        assert!(open(0, true).is_err(), "there are no more");
        drop((taken, admins));
        assert!(open(9, false).is_ok());
    }

    #[test]
    fn one_user_does_not_take_all_connections() {
        let accounts = Arc::new(Accounts::default());
        let open = |user| accounts.connect(Principal::User(user), true, at(0));
        let taken: Vec<_> = (0..USER_CONNECTIONS_MAX).map(|_| open(0)).collect();
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(
            open(0).err(),
            Some(TooMany::OfPrincipal(USER_CONNECTIONS_MAX))
        );
        assert!(open(1).is_ok());
    }

    #[test]
    fn an_allowance_outlives_the_connection_and_is_not_shared() {
        let accounts = Arc::new(Accounts::default());
        for _ in 0..2 {
            let permit = accounts.connect(MODULE, false, at(0));
            assert!(permit.is_ok() && accounts.take_request(MODULE, 2, at(0)));
            drop(permit);
        }
        let permit = accounts.connect(MODULE, false, at(0));
        assert!(
            !accounts.take_request(MODULE, 2, at(0)),
            "a new connection brings nothing"
        );
        assert!(accounts.take_request(Principal::User(0), 2, at(0)));
        assert!(
            accounts.take_request(MODULE, 2, at(1)),
            "refilled after a second"
        );
        drop(permit);
    }

    #[test]
    fn refusals_are_limited_across_connections() {
        let accounts = Arc::new(Accounts::default());
        let refused = (0..1000)
            .filter(|_| accounts.take_refusal(MODULE, at(0)))
            .count();
        assert_eq!(refused, REFUSALS_BURST as usize);
        assert!(accounts.take_refusal(USER, at(0)));
        assert!(accounts.is_exhausted(MODULE, at(0)) && !accounts.is_exhausted(USER, at(0)));
        assert!(!accounts.is_exhausted(MODULE, at(1)));
    }

    #[test]
    fn the_first_refusal_is_recorded_and_the_others_are_counted() {
        let accounts = Arc::new(Accounts::default());
        assert_eq!(accounts.report(MODULE, at(0)), Report::Now);
        let mut records = 1;
        let mut counted = 1;
        let mut due: Option<MonoTime> = None;
        // A hundred refusals a second for an hour.
        for tick in 0..360_000_u64 {
            let now = at(0).after(Duration::from_millis(tick * 10));
            if due.is_some_and(|due| due <= now) {
                (records, due) = (records + 1, None);
                counted += accounts.take_refusals(MODULE, now);
            }
            match accounts.report(MODULE, now) {
                Report::Now => panic!("it is not quiet"),
                Report::After(delay) => due = Some(now.after(delay)),
                Report::Counted => {}
            }
        }
        assert!((60..=70).contains(&records), "{records} records");
        assert!(counted > 350_000, "{counted} refusals in the records");
        assert_eq!(
            accounts.report(USER, at(0)),
            Report::Now,
            "another principal"
        );
    }

    #[test]
    fn a_principal_without_an_account_of_its_own_shares_one() {
        let accounts = Arc::new(Accounts::default());
        let users = u32::try_from(ACCOUNTS_MAX).expect("a number of accounts");
        for user in 0..users {
            assert!(accounts.take_request(Principal::User(user), 1, at(0)));
        }
        assert!(accounts.take_request(Principal::User(users), 1, at(0)));
        assert!(
            !accounts.take_request(Principal::User(users + 1), 1, at(0)),
            "shared"
        );
        assert!(accounts.lock().accounts.len() <= ACCOUNTS_MAX + 1);
        assert!(
            accounts.take_request(Principal::User(users + 1), 1, at(100)),
            "unused ones are gone"
        );
        assert!(accounts.lock().accounts.len() < 10);
    }
}
