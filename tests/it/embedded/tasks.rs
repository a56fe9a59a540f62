//! Tasks of an application: crashes, cancellation, those that never yield, and the bus.
//! Owns the promises about what runs inside of the application. Never looks inside of mainstay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use mainstay_protocol::{ErrorCode, EventKind, ModuleState};
use serde_json::json;

use super::{PATIENCE, builder, until};
use crate::daemon::prepare;

#[tokio::test]
async fn a_panicking_task_is_restarted_with_backoff() {
    let dir = prepare(
        "",
        "[recovery]\nbackoff = { initial = \"100ms\", jitter = 0.0 }\n",
    );
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let mainstay = builder(&dir)
        .task("fragile", move |ctx| {
            let run = counted.fetch_add(1, SeqCst) + 1;
            async move {
                assert!(run != 1, "boom");
                if run == 2 {
                    return Err(std::io::Error::other("the index is damaged").into());
                }
                ctx.cancelled().await;
                Ok(())
            }
        })
        .start()
        .await
        .expect("it starts");
    let mut events = mainstay.subscribe_to(mainstay::journal::EventFilter::default(), Some(0));
    let view = until(&mainstay, "fragile", "to run for good", |view| {
        // A task counts as started when its thread is asked to; it runs a moment later.
        view.generation == 3 && view.state == ModuleState::Running && runs.load(SeqCst) == 3
    })
    .await;
    assert_eq!(view.restarts, 2);
    let last = view.last_exit.expect("it failed before");
    assert_eq!(
        (last.code, last.text.as_str()),
        (Some(1), "failed: the index is damaged")
    );
    let (mut exits, mut starts, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    while starts.len() < 3 {
        let event = tokio::time::timeout(PATIENCE, events.recv())
            .await
            .expect("in time");
        let event = event.expect("an event");
        if event.module.as_deref() != Some("fragile") {
            continue;
        }
        match event.kind {
            EventKind::ModuleExited => exits.push((event.at, event.payload["code"].clone())),
            EventKind::ModuleStateChanged if event.payload["to"] == "starting" => {
                starts.push(event.at);
            }
            EventKind::ModuleStateChanged => texts.push(event.payload["text"].to_string()),
            _ => {}
        }
    }
    assert_eq!(exits[0].1, 101);
    assert!(
        texts.iter().any(|text| text.contains("panicked: boom")),
        "{texts:?}"
    );
    for (exit, start) in exits.iter().zip(&starts[1..]) {
        let waited = start.0 - exit.0.0;
        assert!(waited >= 95, "restarted after {waited} ms: no backoff");
    }
    mainstay.stop_system(PATIENCE).await;
}

#[tokio::test]
async fn cancellation_is_a_stop_and_what_ignores_it_is_aborted() {
    let dir = prepare("", "[module.deaf]\nshutdown_timeout = \"100ms\"\n");
    let (polite, dropped) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let (said, fell) = (Arc::clone(&polite), Arc::clone(&dropped));
    let mainstay = builder(&dir)
        .task("polite", move |ctx| {
            let said = Arc::clone(&said);
            async move {
                ctx.cancelled().await;
                said.store(ctx.is_cancelled(), SeqCst);
                Ok(())
            }
        })
        .task("deaf", move |_ctx| {
            let guard = OnDrop(Arc::clone(&fell));
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(())
            }
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("both run");
    let view = mainstay.stop_module("polite").await.expect("granted");
    assert_eq!(
        (view.state, view.last_exit.expect("it ended").code),
        (ModuleState::Stopped, Some(0))
    );
    assert!(polite.load(SeqCst));
    let view = mainstay.stop_module("deaf").await.expect("granted");
    let exit = view.last_exit.expect("it ended");
    assert_eq!(
        (view.state, exit.signal),
        (ModuleState::Stopped, Some(libc::SIGKILL))
    );
    assert!(exit.text.starts_with("aborted"), "{}", exit.text);
    assert!(
        dropped.load(SeqCst),
        "what an aborted task holds is dropped"
    );
    assert_eq!(
        mainstay
            .start_module("polite")
            .await
            .expect("granted")
            .state,
        ModuleState::Running
    );
    mainstay.stop_system(PATIENCE).await;
}

/// On one thread, on purpose: not even there may it hold up the others.
#[tokio::test]
async fn a_task_that_never_yields_becomes_failed_and_is_never_doubled() {
    let settings = "[module.stuck]\nshutdown_timeout = \"50ms\"\n\
                    recovery = { backoff = { initial = \"10ms\", floor = \"10ms\" }, max_attempts = 1 }\n\
                    [module.other]\n";
    let dir = prepare("", settings);
    let (release, alive, most) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicU32::new(0)),
    );
    let (go, now, peak) = (Arc::clone(&release), Arc::clone(&alive), Arc::clone(&most));
    let mainstay = builder(&dir)
        .task("stuck", move |ctx| {
            let (go, now, peak) = (Arc::clone(&go), Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                while !go.load(SeqCst) {
                    std::hint::spin_loop();
                }
                now.fetch_sub(1, SeqCst);
                ctx.cancelled().await;
                Ok(())
            }
        })
        .task("other", |ctx| async move {
            ctx.cancelled().await;
            Ok(())
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("both run");
    let view = mainstay.stop_module("stuck").await.expect("granted");
    assert_eq!(view.state, ModuleState::Failed, "{view:?}");
    let why = view.last_exit.expect("given up").text;
    assert!(why.contains("never yields"), "{why}");
    assert_eq!(
        mainstay.module("other").expect("it exists").state,
        ModuleState::Running
    );
    assert_eq!(alive.load(SeqCst), 1, "it still lasts");
    mainstay.start_module("stuck").await.expect("granted");
    let view = until(&mainstay, "stuck", "to be refused", |view| {
        view.state == ModuleState::Failed
    })
    .await;
    let why = view.last_exit.expect("refused").text;
    assert!(why.contains("has not ended"), "{why}");
    release.store(true, SeqCst);
    let view = tokio::time::timeout(PATIENCE, async {
        loop {
            let view = mainstay.start_module("stuck").await.expect("granted");
            if view.state == ModuleState::Running {
                return view;
            }
        }
    });
    let view = view
        .await
        .expect("it may start again once the first has ended");
    assert!(view.generation > 1);
    assert_eq!(most.load(SeqCst), 1, "there were two at once");
    mainstay.stop_system(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_with_a_task_that_never_yields_still_stops() {
    let dir = prepare("", "[module.stuck]\nshutdown_timeout = \"50ms\"\n");
    let release = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&release);
    let mainstay = builder(&dir)
        .task("stuck", move |_ctx| {
            let go = Arc::clone(&go);
            async move {
                while !go.load(SeqCst) {
                    std::hint::spin_loop();
                }
                Ok(())
            }
        })
        .start()
        .await
        .expect("it starts");
    mainstay.wait_started().await.expect("it runs");
    let outcome = tokio::time::timeout(PATIENCE, mainstay.stop_system(Duration::from_secs(1)));
    assert_eq!(outcome.await.expect("a stop ends").forced, 1);
    release.store(true, SeqCst);
}

#[tokio::test]
async fn tasks_talk_over_the_bus() {
    let dir = prepare(
        "",
        "[module.speaker]\nrequires = [\"listener\"]\nmay_call = [\"listener\"]\n\
                           [module.listener]\nready = { notify = true }\n",
    );
    let (heard, refused) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (hears, refuses) = (Arc::clone(&heard), Arc::clone(&refused));
    let mainstay = builder(&dir)
        .task("listener", move |ctx| {
            let hears = Arc::clone(&hears);
            async move {
                let mut events = ctx.subscribe(&["samples.*"])?;
                ctx.ready();
                while let Some(event) = events.next().await {
                    assert_eq!(
                        (event.from.as_str(), &event.payload),
                        ("speaker", &json!(7))
                    );
                    hears.store(true, SeqCst);
                }
                Ok(())
            }
        })
        .task("speaker", move |ctx| {
            let refuses = Arc::clone(&refuses);
            async move {
                assert_eq!(ctx.publish("samples.machine", json!(7))?.delivered, 1);
                let limit = Duration::from_secs(5);
                let answer = ctx.call("listener", "greet", json!({}), limit).await;
                let code = answer.expect_err("tasks serve nothing").data.code;
                refuses.store(code == ErrorCode::ModuleError, SeqCst);
                ctx.cancelled().await;
                Ok(())
            }
        })
        .start()
        .await
        .expect("it starts");
    let both = tokio::time::timeout(PATIENCE, async {
        while !(heard.load(SeqCst) && refused.load(SeqCst)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    both.await.expect("both were heard");
    mainstay.stop_system(PATIENCE).await;
}
