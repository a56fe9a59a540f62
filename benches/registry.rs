//! What the snapshots of all modules costs: to read one, all and the system, and to write to it.
//! Owns an embedded runtime, the registry's public face. Never starts a process.
#![expect(
    clippy::disallowed_methods,
    reason = "what is measured is time on the clock"
)]

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use mainstay::{Runtime, TaskContext};
use tokio::sync::mpsc;

/// A runtime with this many modules that do not run, and one task that says what it is told to say.
fn runtime(
    tokio: &tokio::runtime::Runtime,
    count: usize,
) -> (tempfile::TempDir, Runtime, mpsc::Sender<String>) {
    let folder = tempfile::tempdir().expect("a directory");
    let place = folder.path().display();
    let mut text = format!(
        "[mainstay]\nname = \"bench\"\nstate_dir = \"{place}/state\"\nruntime_dir = \"{place}/run\"\n"
    );
    for n in 1..count {
        let module = format!("[module.module-{n}]\ncommand = [\"/bin/true\"]\nstart = \"lazy\"\n");
        text.write_str(&module).expect("memory");
    }
    std::fs::write(folder.path().join("mainstay.toml"), text).expect("a file");
    let (say, said) = mpsc::channel::<String>(1);
    let said = std::sync::Arc::new(tokio::sync::Mutex::new(said));
    let speaker = move |context: TaskContext| {
        let said = std::sync::Arc::clone(&said);
        async move {
            let mut said = said.lock().await;
            loop {
                tokio::select! {
                    () = context.cancelled() => return Ok(()),
                    Some(text) = said.recv() => context.status(text),
                }
            }
        }
    };
    let builder = Runtime::builder().config(folder.path());
    let runtime = tokio.block_on(async {
        let runtime = builder.task("speaker", speaker).start().await;
        let runtime = runtime.expect("a runtime");
        runtime.wait_started().await.expect("started");
        runtime
    });
    (folder, runtime, say)
}

fn registry(c: &mut Criterion, tokio: &tokio::runtime::Runtime, count: usize) {
    let (_folder, runtime, say) = runtime(tokio, count);
    let mut group = c.benchmark_group(format!("registry/{count} modules"));
    group.bench_function("read one", |b| {
        b.iter(|| runtime.module(black_box("speaker")).expect("it is there"));
    });
    group.bench_function("read the system", |b| b.iter(|| runtime.status()));
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function("read all", |b| b.iter(|| runtime.modules()));
    group.throughput(Throughput::Elements(1));
    let mut number = 0_u64;
    group.bench_function("write one, until a reader sees it", |b| {
        b.iter_custom(|iterations| {
            let begin = Instant::now();
            for _ in 0..iterations {
                number += 1;
                let text = number.to_string();
                say.blocking_send(text.clone()).expect("the task runs");
                let seen = || runtime.module("speaker").expect("it is there").status_text;
                while seen().as_ref() != Some(&text) {
                    std::hint::spin_loop();
                }
            }
            begin.elapsed()
        });
    });
    group.finish();
    let outcome = tokio.block_on(runtime.stop_system(std::time::Duration::from_secs(5)));
    assert_eq!(outcome.forced, 0);
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a tokio runtime");
    let mut criterion = Criterion::default().configure_from_args();
    for count in [20, 1_000] {
        registry(&mut criterion, &tokio, count);
    }
    criterion.final_summary();
}
