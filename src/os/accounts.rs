//! Users and groups by name or number: what a process becomes, and what its account gives it.
//! Owns the look-ups and their messages. They may hang: their caller can do without its thread.
//! Never changes the user of this process.

use std::ffi::CString;

use mainstay_process::{Credentials, StartFailure, StartStep};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};

/// The number that means no user and no group in all calls of the system.
const NOBODY: u32 = u32::MAX;

/// The user and groups that a process gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// None: it stays who mainstay is.
    pub(crate) credentials: Option<Credentials>,
    /// HOME, USER, LOGNAME and SHELL of the user, if it has an account.
    pub(crate) env: Vec<(String, String)>,
}

/// Why a user or group cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountError {
    pub(crate) failure: StartFailure,
    pub(crate) message: String,
}

/// Returns the user that mainstay runs as.
pub(crate) fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Returns whether a user is in a group, by its primary group or the group's member list.
pub(crate) fn in_group(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else {
        return false;
    };
    group.gid.as_raw() == gid
        || User::from_uid(Uid::from_raw(uid))
            .ok()
            .flatten()
            .is_some_and(|user| user.gid == group.gid || group.mem.contains(&user.name))
}

/// Looks up a user and a group.
///
/// # Errors
/// There is none of this name, its group is not known, or it cannot be looked up.
pub(crate) fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Account, AccountError> {
    let own = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let group = group.map(find_group).transpose()?;
    let mut env = Vec::new();
    let credentials = match user {
        None => group.map(|gid| Credentials {
            uid: own.0,
            gid,
            groups: vec![gid],
        }),
        Some(name) => Some(match find_user(name)? {
            Found::Account(account) => {
                env = environment(&account);
                let gid = group.unwrap_or(account.gid.as_raw());
                Credentials {
                    uid: account.uid.as_raw(),
                    gid,
                    groups: groups_of(&account).unwrap_or_else(|| vec![gid]),
                }
            }
            Found::Number(uid) => {
                let gid = group.ok_or_else(|| {
                    let why = format!(
                        "cannot become user {uid}: it has no account, so its group is not known; \
                         add `group`"
                    );
                    error(StartStep::Group, Errno::EINVAL, why)
                })?;
                Credentials {
                    uid,
                    gid,
                    groups: vec![gid],
                }
            }
        }),
    };
    // Without root nothing can be changed, and nothing has to be for the same user.
    let stays = |one: &Credentials| (one.uid, one.gid) == own && own.0 != 0;
    Ok(Account {
        credentials: credentials.filter(|one| !stays(one)),
        env,
    })
}

enum Found {
    Account(Box<User>),
    /// A user without an account.
    Number(u32),
}

fn find_user(name: &str) -> Result<Found, AccountError> {
    let number = number(name, "user", StartStep::User)?;
    let found = match number {
        Some(uid) => User::from_uid(Uid::from_raw(uid)),
        None => User::from_name(name),
    };
    match (found, number) {
        (Ok(Some(account)), _) => Ok(Found::Account(Box::new(account))),
        (Ok(None), Some(uid)) => Ok(Found::Number(uid)),
        (Ok(None), None) => Err(missing(StartStep::User, "user", name)),
        (Err(errno), _) => Err(not_looked_up(StartStep::User, errno, "user", name)),
    }
}

fn find_group(name: &str) -> Result<u32, AccountError> {
    match number(name, "group", StartStep::Group)? {
        Some(gid) => Ok(gid),
        None => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(missing(StartStep::Group, "group", name)),
            Err(errno) => Err(not_looked_up(StartStep::Group, errno, "group", name)),
        },
    }
}

/// The number that a text is, if it is one; -1 in any spelling is none that can be used.
fn number(text: &str, what: &str, step: StartStep) -> Result<Option<u32>, AccountError> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.strip_prefix('+').unwrap_or(text).parse::<u32>().ok();
    match number.filter(|number| *number != NOBODY) {
        Some(number) => Ok(Some(number)),
        None => {
            let why = format!(
                "cannot use {what} {text}: no {what} has this number; choose 0 to {}",
                NOBODY - 1
            );
            Err(error(step, Errno::EINVAL, why))
        }
    }
}

fn error(step: StartStep, errno: Errno, message: String) -> AccountError {
    let errno = errno as i32;
    AccountError {
        failure: StartFailure { step, errno },
        message,
    }
}

fn missing(step: StartStep, what: &str, name: &str) -> AccountError {
    let why = format!(
        "cannot find the {what} {name} (ENOENT); there is none of this name here; create it, or \
         correct `{what}`"
    );
    error(step, Errno::ENOENT, why)
}

fn not_looked_up(step: StartStep, errno: Errno, what: &str, name: &str) -> AccountError {
    let why = format!(
        "cannot look up the {what} {name}: {}; check the name service of this machine",
        errno.desc()
    );
    error(step, errno, why)
}

/// What a look-up that takes too long is reported as.
pub(crate) fn timed_out(user: Option<&str>, group: Option<&str>) -> AccountError {
    let (step, what, name) = match user {
        Some(user) => (StartStep::User, "user", user),
        None => (StartStep::Group, "group", group.unwrap_or_default()),
    };
    not_looked_up(step, Errno::ETIMEDOUT, what, name)
}

fn environment(account: &User) -> Vec<(String, String)> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let variables = [
        ("HOME", text(&account.dir)),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", text(&account.shell)),
    ];
    let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(not(target_os = "macos"))]
fn groups_of(account: &User) -> Option<Vec<u32>> {
    let name = CString::new(account.name.as_bytes()).ok()?;
    let groups = nix::unistd::getgrouplist(&name, account.gid).ok()?;
    Some(groups.iter().map(|group| group.as_raw()).collect())
}

#[cfg(target_os = "macos")]
#[expect(
    unsafe_code,
    reason = "getgrouplist, which has numbers of another kind here"
)]
fn groups_of(account: &User) -> Option<Vec<u32>> {
    let name = CString::new(account.name.as_bytes()).ok()?;
    let mut groups = [0 as libc::c_int; 256];
    let mut count = groups.len() as libc::c_int;
    let group = account.gid.as_raw().cast_signed();
    // SAFETY: a name with its NUL, and room whose size is told. Those that find no room are left.
    unsafe { libc::getgrouplist(name.as_ptr(), group, groups.as_mut_ptr(), &raw mut count) };
    let count = usize::try_from(count).ok()?.min(groups.len());
    let groups = groups[..count].iter();
    (count > 0).then(|| groups.map(|group| group.cast_unsigned()).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn minus_one_is_nobody_however_it_is_spelled() {
        for text in [
            "-1",
            "4294967295",
            "+4294967295",
            "04294967295",
            "-0001",
            " 4294967295 ",
        ] {
            for (user, group) in [(Some(text), Some("0")), (None, Some(text))] {
                let error = resolve(user, group).unwrap_err();
                assert_eq!(error.failure.errno, libc::EINVAL, "{text:?}");
                assert!(
                    error.message.contains("has this number"),
                    "{}",
                    error.message
                );
            }
        }
        let error = resolve(Some("18446744073709551615"), Some("0")).unwrap_err();
        assert!(error.message.contains("choose 0 to 4294967294"));
    }

    #[test]
    fn a_number_without_account_needs_a_group() {
        let error = resolve(Some("4000000001"), None).unwrap_err();
        assert_eq!(error.failure.step, StartStep::Group);
        assert!(error.message.contains("add `group`"), "{}", error.message);
        let account = resolve(Some("4000000001"), Some("4000000002")).unwrap();
        let credentials = account.credentials.unwrap();
        assert_eq!(
            (credentials.uid, credentials.gid),
            (4_000_000_001, 4_000_000_002)
        );
        assert_eq!(
            (credentials.groups, account.env),
            (vec![4_000_000_002], vec![])
        );
    }

    #[test]
    fn an_account_gives_its_groups_and_its_environment() {
        let Ok(Some(nobody)) = User::from_name("nobody") else {
            return eprintln!("no user nobody here: not tested");
        };
        for name in ["nobody".to_owned(), nobody.uid.to_string()] {
            let account = resolve(Some(&name), None).unwrap();
            let credentials = account.credentials.unwrap();
            assert_eq!(credentials.uid, nobody.uid.as_raw());
            assert_eq!(credentials.gid, nobody.gid.as_raw());
            assert!(credentials.groups.contains(&credentials.gid));
            let home = nobody.dir.to_string_lossy().into_owned();
            assert!(account.env.contains(&("HOME".to_owned(), home)));
            assert!(
                account
                    .env
                    .contains(&("USER".to_owned(), "nobody".to_owned()))
            );
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = resolve(Some("no-user-of-this-name"), None).unwrap_err();
        assert_eq!(error.failure.step, StartStep::User);
        assert!(error.message.contains("create it"), "{}", error.message);
        let error = resolve(None, Some("no-group-of-this-name")).unwrap_err();
        assert_eq!(error.failure.step, StartStep::Group);
    }
}
