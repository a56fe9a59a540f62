//! The job of launchd, a daemon of the machine or an agent of a user, and what installs it.
//! Owns the text of its property list and its escapes.
//! Never writes it.

use std::path::PathBuf;

use super::{
    Installation, MARKER, PathError, Scope, ServiceCommand, ServiceFile, ServiceSpec, text_of,
};

/// What launchd calls it.
pub(crate) fn label(spec: &ServiceSpec) -> String {
    format!("mainstay.{}", spec.name)
}

/// Everything that its installation does; `uid` is that of the user of an agent.
///
/// # Errors
/// A path that cannot be in a property list.
pub(crate) fn installation(spec: &ServiceSpec, uid: u32) -> Result<Installation, PathError> {
    let label = label(spec);
    let (domain, dir) = match spec.scope {
        Scope::System => ("system".to_owned(), PathBuf::from("/Library/LaunchDaemons")),
        Scope::User => (format!("gui/{uid}"), spec.home.join("Library/LaunchAgents")),
    };
    let target = format!("{domain}/{label}");
    let path = dir.join(format!("{label}.plist"));
    let path_text = text_of(&path)?.to_owned();
    let launchctl = |words: &[&str]| ServiceCommand::new(&[&["launchctl"], words].concat());
    Ok(Installation {
        directories: vec![spec.state_dir.clone(), spec.log_dir.clone()],
        files: vec![ServiceFile {
            path,
            text: text(spec)?,
        }],
        start: vec![
            launchctl(&["bootout", &target]).may_fail(),
            launchctl(&["enable", &target]),
            launchctl(&["bootstrap", &domain, &path_text]),
        ],
        // launchd reads a property list when the job is loaded: the next login, or the next start.
        refresh: vec![launchctl(&["enable", &target])],
        stop: vec![launchctl(&["bootout", &target]).may_fail()],
        links: Vec::new(),
        clean: Vec::new(),
        surrounding: None,
        rights: vec![match spec.scope {
            Scope::System => "it runs as root from the boot on; a module with `user` runs as that \
                              user"
                .to_owned(),
            Scope::User => "it runs as this user, from login to logout".to_owned(),
        }],
        unit: label,
    })
}

/// The text of the property list.
///
/// # Errors
/// A path that cannot be in one.
pub(crate) fn text(spec: &ServiceSpec) -> Result<String, PathError> {
    let mut words = String::new();
    for word in spec.command(&["up"])? {
        words.push_str(&format!("    <string>{}</string>\n", escape(&word)));
    }
    let mut variables = String::new();
    for (name, value) in &spec.variables {
        let (name, value) = (escape(name), escape(value));
        variables.push_str(&format!(
            "    <key>{name}</key>\n    <string>{value}</string>\n"
        ));
    }
    if !variables.is_empty() {
        variables = format!("  <key>EnvironmentVariables</key>\n  <dict>\n{variables}  </dict>\n");
    }
    let output = spec.log_dir.join("mainstay.out");
    let (label, output) = (escape(&label(spec)), escape(text_of(&output)?));
    let stop = spec.stop_window().as_secs();
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- {MARKER}: do not edit it, it is replaced by the next one. -->\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \x20 <key>Label</key>\n\
         \x20 <string>{label}</string>\n\
         \x20 <key>ProgramArguments</key>\n\
         \x20 <array>\n{words}  </array>\n{variables}\
         \x20 <key>RunAtLoad</key>\n\
         \x20 <true/>\n\
         \x20 <key>KeepAlive</key>\n\
         \x20 <dict>\n\
         \x20   <key>SuccessfulExit</key>\n\
         \x20   <false/>\n\
         \x20 </dict>\n\
         \x20 <key>ThrottleInterval</key>\n\
         \x20 <integer>10</integer>\n\
         \x20 <key>ExitTimeOut</key>\n\
         \x20 <integer>{stop}</integer>\n\
         \x20 <key>ProcessType</key>\n\
         \x20 <string>Adaptive</string>\n\
         \x20 <key>Umask</key>\n\
         \x20 <integer>18</integer>\n\
         \x20 <key>StandardOutPath</key>\n\
         \x20 <string>{output}</string>\n\
         \x20 <key>StandardErrorPath</key>\n\
         \x20 <string>{output}</string>\n\
         </dict>\n\
         </plist>\n"
    ))
}

/// Text of an XML element; control characters were refused before.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{odd, shop};
    use super::*;

    #[test]
    fn a_daemon_and_an_agent_have_a_property_list() {
        insta::assert_snapshot!("launchd_daemon", text(&shop(Scope::System)).expect("text"));
        insta::assert_snapshot!("launchd_odd", text(&odd(Scope::User)).expect("text"));
        let agent = installation(&shop(Scope::User), 501).expect("an installation");
        assert_eq!(
            agent.files[0].path.to_str(),
            Some("/srv/ann/Library/LaunchAgents/mainstay.shop.plist")
        );
        let start: Vec<String> = agent.start.iter().map(|one| one.argv.join(" ")).collect();
        assert_eq!(
            start,
            [
                "launchctl bootout gui/501/mainstay.shop",
                "launchctl enable gui/501/mainstay.shop",
                "launchctl bootstrap gui/501 \
                 /srv/ann/Library/LaunchAgents/mainstay.shop.plist",
            ]
        );
    }
}
