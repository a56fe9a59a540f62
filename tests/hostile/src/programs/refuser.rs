//! Connects, makes calls that it is refused, and connects again: as a module, a thousand times a
//! second if it is let.
//! Owns one connection at a time. Never makes a call that it may make.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::connection::{call, hello, open};
use super::words::{Words, left, say, under_way};

/// Refused calls of one connection.
const CALLS: usize = 100;

/// `refuser SOCKET THREADS MILLISECONDS`: `-` is the module's own socket.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (threads, end) = (words.number(1)?, words.end(2)?);
    let own = env::var("MAINSTAY_SOCKET").unwrap_or_default();
    let path = Some(words.text(0)?)
        .filter(|path| *path != "-")
        .unwrap_or(&own);
    let token = env::var("MAINSTAY_TOKEN").ok();
    let calls = [
        call("module.stop", "{\"module\":\"talker\"}"),
        call("system.stop", "{}"),
    ];
    let calls = calls.concat().repeat(CALLS / 2);
    let refused = || -> io::Result<(usize, usize)> {
        let (mut connections, mut answers) = (0, 0);
        while !left(end).is_zero() {
            let next = Instant::now() + Duration::from_millis(threads);
            if let Some(mut stream) = open(path)? {
                connections += 1;
                let said = hello(&stream, token.as_deref());
                if said
                    .and_then(|()| stream.write_all(calls.as_bytes()))
                    .is_ok()
                {
                    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                    let lines = lines.take(CALLS + 1);
                    answers += lines.filter(|line| line.contains("error")).count();
                }
            }
            thread::sleep(left(next));
        }
        Ok((connections, answers))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(refused)).collect();
        under_way()?;
        for thread in threads {
            let counts = thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))?;
            let (connections, answers) = counts?;
            say(&format!("{connections} connections, {answers} refusals"))?;
        }
        Ok(())
    })
}
