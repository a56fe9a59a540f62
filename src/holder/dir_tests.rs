//! What directories by descriptor refuse, create and leave alone.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_missing_is_created_with_the_mode_whatever_the_umask() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("above/run");
    let dir = Dir::claim(&path, 0o711).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o711, 0o711));
    assert!(dir.is_in_place());
    set_mode(&path, 0o750);
    let again = Dir::claim(&path, 0o700).unwrap();
    assert_eq!(mode(&path), 0o750, "one that is there stays as it is");
    again.set_mode(0o711).unwrap();
    assert_eq!(mode(&path), 0o711);
    fs::rename(&path, home.path().join("away")).unwrap();
    assert!(!dir.is_in_place());
    fs::create_dir(&path).unwrap();
    assert!(!dir.is_in_place(), "another directory of the same name");
}

#[test]
fn a_directory_in_which_others_may_rename_is_refused_and_named() {
    let home = tempfile::tempdir().unwrap();
    let open = home.path().join("open");
    fs::create_dir(&open).unwrap();
    for (bits, said) in [(0o777, "any user"), (0o703, "any user")] {
        set_mode(&open, bits);
        let error = Dir::claim(&open.join("state"), 0o700)
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{error}");
        assert!(error.contains(&open.display().to_string()), "{error}");
        assert!(error.contains(&format!("mode {bits:o}")), "{error}");
    }
    set_mode(&open, 0o1777);
    Dir::claim(&open.join("state"), 0o700).unwrap();
    set_mode(&open, 0o755);
    Dir::claim(&open.join("state"), 0o700).unwrap();
}

#[test]
fn who_is_trusted_is_decided_by_owner_group_and_sticky_bit() {
    let trust = Trust {
        uid: 1000,
        gid: 1000,
        unmapped: None,
        also: None,
    };
    let home = tempfile::tempdir().unwrap();
    let of = |uid: u32, gid: u32, mode: libc::mode_t| {
        let mut seen = nix::sys::stat::stat(home.path()).unwrap();
        (seen.st_uid, seen.st_gid, seen.st_mode) = (uid, gid, mode);
        seen
    };
    let good = |above: FileStat, entry: FileStat| {
        trust
            .check((&above, false), Some(&entry), home.path())
            .is_ok()
    };
    let own = of(1000, 1000, 0o700);
    assert!(good(of(0, 0, 0o755), own));
    assert!(good(of(1000, 1000, 0o775), own), "a private group");
    assert!(good(of(0, 0, 0o775), own), "root's group");
    assert!(!good(of(1000, 100, 0o775), own), "users");
    assert!(good(of(1000, 100, 0o1775), own), "sticky");
    assert!(!good(of(7, 7, 0o755), own));
    assert!(
        !good(of(7, 7, 0o1777), own),
        "its owner may rename in spite of the bit"
    );
    assert!(good(of(0, 0, 0o1777), own));
    assert!(
        !good(of(0, 0, 0o1777), of(7, 7, 0o755)),
        "somebody else made it first"
    );
    assert!(
        good(of(0, 0, 0o755), of(7, 7, 0o755)),
        "found out when it is entered"
    );
    let contained = Trust {
        unmapped: Some(65534),
        ..trust
    };
    assert!(
        contained
            .check((&of(65534, 65534, 0o755), false), Some(&own), home.path())
            .is_ok()
    );
}

#[test]
fn the_number_of_unmapped_users_is_trusted_only_where_no_user_has_it() {
    let initial = "         0          0 4294967295\n";
    assert_eq!(unmapped_in(initial, 65534), None);
    assert_eq!(unmapped_in("0 1000 1\n", 65534), Some(65534));
    assert_eq!(unmapped_in("0 1000 1\n1 100000 65536\n", 65534), None);
    assert_eq!(unmapped_in("0 100000 65534\n", 65534), Some(65534));
    assert_eq!(unmapped_in("0 100000 65535\n", 65534), None);
    assert_eq!(unmapped_in("what is this\n", 65534), None);
}

#[test]
fn a_directory_in_which_others_may_write_is_not_closed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("logs");
    Dir::claim_closed(&path, 0o700).unwrap();
    for mode in [0o777, 0o1777, 0o703] {
        set_mode(&path, mode);
        let error = Dir::claim_closed(&path, 0o700).unwrap_err().to_string();
        assert!(error.contains("any user"), "{error}");
        Dir::claim(&path, 0o700).unwrap();
    }
    set_mode(&path, 0o755);
    Dir::claim_closed(&path, 0o700).unwrap();
}

#[test]
fn a_user_that_is_named_may_own_a_directory_and_its_files() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("config");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("file");
    fs::write(&path, "").unwrap();
    let check = |also| {
        let file = File::open(&path).unwrap();
        check_file(&file, &path, also).and_then(|()| check_closed(&folder, also))
    };
    check(None).unwrap();
    set_mode(&path, 0o666);
    check(None).unwrap_err();
    set_mode(&path, 0o644);
    set_mode(&folder, 0o777);
    check(None).unwrap_err();
    set_mode(&folder, 0o755);
    let missing = folder.join("missing");
    assert!(check_closed(&missing, None).unwrap_err().errno().is_some());
    assert!(!missing.exists());
    if nix::unistd::geteuid().is_root() {
        for path in [&folder, &path] {
            std::os::unix::fs::chown(path, Some(54321), None).unwrap();
            check(None).unwrap_err();
            check(Some(54321)).unwrap();
            check(Some(54322)).unwrap_err();
        }
    }
}

#[test]
fn a_directory_of_another_user_is_refused_with_its_owner() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested here: only root can give directories away");
    }
    let home = tempfile::tempdir().unwrap();
    let theirs = home.path().join("user");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(54321), None).unwrap();
    for path in [theirs.clone(), theirs.join("mainstay/app")] {
        let error = Dir::claim(&path, 0o711).unwrap_err().to_string();
        assert!(error.contains("user 54321 owns"), "{error}");
    }
    assert!(
        fs::read_dir(&theirs).unwrap().next().is_none(),
        "nothing was created in it"
    );
    let link = home.path().join("link");
    symlink(&theirs, &link).unwrap();
    assert!(Dir::claim(&link, 0o711).is_err(), "by a link neither");
}

#[test]
fn links_that_only_this_user_can_place_are_followed() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().join("real/deep");
    fs::create_dir_all(&real).unwrap();
    symlink("real", home.path().join("relative")).unwrap();
    symlink(&real, home.path().join("absolute")).unwrap();
    symlink("deep/../deep", home.path().join("real/up")).unwrap();
    symlink("loop", home.path().join("loop")).unwrap();
    for path in [
        "relative/deep",
        "absolute",
        "relative/up",
        "real/../relative/./deep",
    ] {
        let dir = Dir::claim(&home.path().join(path).join("it"), 0o700).unwrap();
        dir.create("file", 0o600).unwrap();
        fs::remove_file(real.join("it/file")).unwrap();
    }
    let error = Dir::claim(&home.path().join("loop"), 0o700).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ELOOP));
    fs::write(home.path().join("file"), "").unwrap();
    let error = Dir::claim(&home.path().join("file/x"), 0o700).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOTDIR));
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::claim(home.path(), 0o700).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
    nix::unistd::mkfifo(&dir.join("read"), Mode::S_IRWXU).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let _reader = nix::fcntl::open(&dir.join("read"), flags, Mode::empty()).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    fs::write(dir.join("target"), "kept").unwrap();
    symlink("target", dir.join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let begun = Instant::now();
    for (name, kind) in [
        ("fifo", "a fifo"),
        ("read", "a fifo"),
        ("folder", "a directory"),
        ("link", "a symbolic link"),
        ("socket", "a socket"),
    ] {
        let error = dir.append(name).unwrap_err().to_string();
        assert_eq!(error, format!("{name} is {kind}"));
        assert!(
            dir.read_write(name).is_err() && dir.create(name, 0o600).is_err(),
            "{name}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(fs::read(dir.join("target")).unwrap(), b"kept");
    dir.append("new").unwrap().write_all(b"a").unwrap();
    dir.append("new").unwrap().write_all(b"b").unwrap();
    let mut text = String::new();
    dir.read("new").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), mode(&dir.join("new"))), ("ab", 0o600));
}

#[test]
fn files_are_replaced_and_directories_emptied_by_descriptor() {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::claim(&home.path().join("run"), 0o700).unwrap();
    fs::write(dir.join("victim"), "kept").unwrap();
    symlink("victim", dir.join("holder.json")).unwrap();
    symlink("victim", dir.join("holder.json.new")).unwrap();
    dir.replace("holder.json", b"{}", 0o644).unwrap();
    assert_eq!(fs::read(dir.join("victim")).unwrap(), b"kept");
    assert_eq!(fs::read(dir.join("holder.json")).unwrap(), b"{}");
    let notify = dir.subdir("notify", 0o711).unwrap();
    assert_eq!(mode(notify.path()), 0o711);
    fs::write(notify.join("a.sock"), "").unwrap();
    symlink("../victim", notify.join("b.sock")).unwrap();
    dir.remove_flat("notify");
    assert!(!notify.path().exists() && dir.join("victim").exists());
    symlink(home.path(), dir.join("settings")).unwrap();
    assert!(
        dir.subdir("settings", 0o711).is_err(),
        "a link is not followed"
    );
    dir.remove_flat("settings");
    assert!(home.path().exists());
    // Where the directory went, its files went: nothing is created under its old name.
    fs::rename(dir.path(), home.path().join("away")).unwrap();
    dir.replace("late", b"x", 0o600).unwrap();
    assert!(home.path().join("away/late").exists());
    dir.remove("never").unwrap();
}

#[cfg(target_os = "linux")]
#[test]
#[expect(unsafe_code, reason = "setxattr")]
fn a_directory_in_which_an_access_control_list_lets_another_user_write_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let open = home.path().join("listed");
    fs::create_dir(&open).unwrap();
    let set_list = |user: u16| {
        let everybody = u32::MAX;
        // Owner, user 12345, group, mask, others: tag, permissions, number.
        let entries = [(1, 7, everybody), (2, user, 12345), (4, 5, everybody)];
        let rest = [(16, user | 5, everybody), (32, 5, everybody)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, number) in entries.into_iter().chain(rest) {
            list.extend(u16::to_le_bytes(tag));
            list.extend(u16::to_le_bytes(permissions));
            list.extend(u32::to_le_bytes(number));
        }
        let path = format!("{}\0", open.display());
        let (name, size) = (c"system.posix_acl_access".as_ptr(), list.len());
        // SAFETY: NUL-terminated strings, and a value of the stated length.
        unsafe { libc::setxattr(path.as_ptr().cast(), name, list.as_ptr().cast(), size, 0) == 0 }
    };
    if !set_list(7) {
        eprintln!("no access control lists here: not tested");
        return;
    }
    // The group is trusted where a group may write.
    assert_eq!(mode(&open), 0o775);
    std::os::unix::fs::chown(&open, None, Some(nix::unistd::getegid().as_raw())).unwrap();
    let state = open.join("state");
    let error = Dir::claim(&state, 0o700).unwrap_err().to_string();
    assert!(
        error.contains("may write") || error.contains("list"),
        "{error}"
    );
    assert!(set_list(5), "one that lets nobody write");
    Dir::claim(&state, 0o700).unwrap();
}
