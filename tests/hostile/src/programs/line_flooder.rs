//! Writes empty lines to a socket as fast as they are taken, over many connections.
//! Owns the connections. Never says a line that means something, but for the hello before them.

use std::env;
use std::io::{self, Write};
use std::thread;

use super::connection::{hello, open};
use super::words::{Words, left, say, under_way};

/// `line-flooder SOCKET THREADS MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, threads, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let token = env::var("MAINSTAY_TOKEN").ok();
    let lines = vec![b'\n'; 180 * 1024];
    let flood = |greets: bool| -> io::Result<usize> {
        let mut bytes = 0;
        while !left(end).is_zero() {
            let Some(mut stream) = open(path)? else {
                thread::yield_now();
                continue;
            };
            if greets {
                let _closed = hello(&stream, token.as_deref());
            }
            while let Ok(written) = stream.write(&lines) {
                bytes += written;
                if left(end).is_zero() {
                    break;
                }
            }
        }
        Ok(bytes)
    };
    thread::scope(|scope| {
        let flood = &flood;
        let begin = |number| scope.spawn(move || flood(number % 2 == 0));
        let threads: Vec<_> = (0..threads).map(begin).collect();
        under_way()?;
        let mut bytes = 0;
        for thread in threads {
            bytes += thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))??;
        }
        say(&format!("{bytes} empty lines"))
    })
}
