//! Sends notify messages as fast as they are taken, from several threads.
//! Owns the threads. Never says anything that is true.

use std::io;
use std::thread;

use super::datagram::Sender;
use super::words::{Words, left, say, under_way};

/// `datagram-flood SOCKET THREADS MILLISECONDS`
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (path, threads, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let flood = || -> io::Result<String> {
        let mut sender = Sender::to(path)?;
        let long = format!("STATUS=forged\n{}", "X=1\n".repeat(8000));
        while !left(end).is_zero() {
            for _ in 0..50 {
                sender.send("READY=1\nSTATUS=forged", &[])?;
            }
            sender.send(&long, &[])?;
        }
        Ok(sender.count())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(flood)).collect();
        under_way()?;
        for thread in threads {
            let count = thread
                .join()
                .map_err(|_| io::Error::other("a thread panicked"))?;
            say(&count?)?;
        }
        Ok(())
    })
}
