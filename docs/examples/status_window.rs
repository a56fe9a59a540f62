//! A window on a running mainstay: a table that is drawn again whenever something happens.
//! Owns the screen while it runs. Never changes anything: it only looks.
//!
//! `cargo run --example status_window SOCKET [REDRAWS]`; ends on q and Enter, on Ctrl-C, after
//! that many redraws, or with mainstay. The socket is `control.sock` in the runtime directory:
//! `$XDG_RUNTIME_DIR/mainstay/NAME/control.sock`.

use std::io::Write;

use mainstay_client::asynchronous::Client;
use mainstay_protocol::method::EventsParams;
use mainstay_protocol::{ModuleView, SystemView};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let socket = words
        .next()
        .ok_or("which socket? status_window SOCKET [REDRAWS]")?;
    let redraws: u32 = words.next().map_or(Ok(u32::MAX), |count| count.parse())?;

    // One connection follows, another asks: what is followed never waits behind an answer.
    let mut asking = Client::connect(&socket).await?;
    let following = Client::connect(&socket).await?;
    let (_since, mut events) = following.subscribe(&EventsParams::default()).await?;
    let mut keys = BufReader::new(tokio::io::stdin()).lines();
    let mut has_keys = true;

    for _ in 0..redraws {
        draw(&asking.status().await?, &asking.modules().await?)?;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            line = keys.next_line(), if has_keys => match line? {
                Some(line) if line.trim() == "q" => return Ok(()),
                Some(_) => {}
                None => has_keys = false,
            },
            result = tokio::signal::ctrl_c() => return Ok(result?),
        }
    }
    Ok(())
}

fn draw(system: &SystemView, modules: &[ModuleView]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    // Home and clear: the table stays where it is.
    write!(
        out,
        "\u{1b}[H\u{1b}[2J{}: {}\r\n\r\n",
        system.name, system.status
    )?;
    write!(
        out,
        "{:<16} {:<10} {:<10} {:>8}\r\n",
        "MODULE", "STATE", "HEALTH", "RESTARTS"
    )?;
    for module in modules {
        let ModuleView {
            module: name,
            state,
            health,
            restarts,
            status_text,
            ..
        } = module;
        let text = status_text.as_deref().unwrap_or_default();
        write!(
            out,
            "{name:<16} {state:<10} {health:<10} {restarts:>8}  {text}\r\n"
        )?;
    }
    write!(out, "\r\nq and Enter to leave\r\n")?;
    out.flush()
}
