//! `man`: the manual pages, generated from the command line's own definition.
//! Never writes outside of the folder that it is given.

use clap::CommandFactory;
use mainstay_protocol::enums::CliExitCode;

use super::args::{Cli, ManArgs};
use super::error::CliError;
use super::terminal;

pub(crate) fn run(args: &ManArgs) -> Result<CliExitCode, CliError> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(CliError::Output)?;
        terminal::print(&String::from_utf8_lossy(&page))?;
        return Ok(CliExitCode::Ok);
    };
    let failed = |error: std::io::Error| {
        let text = format!("cannot write into {}: {error}", folder.display());
        CliError::new(CliExitCode::Failed, text)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    terminal::print_text(&format!(
        "wrote the manual pages into {0}; `man -l {0}/mainstay.1` shows the first\n",
        folder.display()
    ))?;
    Ok(CliExitCode::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ManArgs {
            folder: Some(folder.path().join("man1")),
        };
        run(&args).expect("written");
        for command in Cli::command()
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
        {
            let page = folder
                .path()
                .join(format!("man1/mainstay-{}.1", command.get_name()));
            let text = std::fs::read_to_string(&page).expect("a page");
            assert!(text.contains("Example"), "{}", page.display());
        }
    }
}
