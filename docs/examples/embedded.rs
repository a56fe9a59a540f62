//! An application with mainstay inside: two tasks of its own and two processes.
//! Owns its tasks; mainstay owns when they run. Never restarts anything by itself.
//!
//! `cargo run --example embedded [SECONDS]`, and in another terminal
//! `mainstay status --name embedded-example`: it answers like any other. In a manifest,
//! `mainstay = { default-features = false, … }` leaves out the command line and its dependencies.

use std::time::Duration;

use mainstay::{Runtime, TaskContext, TaskError};
use serde_json::json;

/// What a task is: an async function that ends when it is cancelled.
async fn indexer(ctx: TaskContext) -> Result<(), TaskError> {
    let fails_after = ctx.settings()["fails_after"].as_u64().unwrap_or(u64::MAX);
    ctx.ready();
    for document in 1..=fails_after {
        ctx.status(format!("document {document}"));
        ctx.publish("index.grown", json!({ "documents": document }))?;
        tokio::select! {
            () = ctx.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
    }
    Err("the index is damaged".into()) // restarted with backoff, like a process
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(5), |seconds| seconds.parse())?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/embedded");
    let mainstay = Runtime::builder()
        .config(folder)
        .task("indexer", indexer)
        // Undeclared: every key of its [module.listener] has its default.
        .task("listener", |ctx| async move {
            let mut events = ctx.subscribe(&["index.*"])?;
            while let Some(event) = events.next().await {
                println!("listener: {} {}", event.subject, event.payload);
            }
            Ok(())
        })
        .start()
        .await?;

    // Everything that happens is an event; this is how a user interface keeps up.
    let mut events = mainstay.subscribe();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            println!("{}", mainstay::journal::describe(&event));
        }
    });

    mainstay.wait_started().await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for module in mainstay.modules() {
        println!(
            "{:<10} {:<8} restarts: {}",
            module.module, module.state, module.restarts
        );
    }
    println!("clock wrote: {:?}", mainstay.logs("clock", 1).await?);
    let outcome = mainstay.stop_system(Duration::from_secs(5)).await;
    println!("stopped; {} by force", outcome.forced);
    Ok(())
}
