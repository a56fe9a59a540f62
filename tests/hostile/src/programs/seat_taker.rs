//! Takes as many connections as it can get and keeps them, with a module's token and without.
//! Owns the connections. Never makes a call beyond hello.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::thread;

use super::connection::{hello, open};
use super::words::{Words, left, say, under_way};

/// `seat-taker CONTROL_SOCKET COUNT MILLISECONDS`: as a module also 70 seats by its token.
pub(crate) fn run(words: &Words) -> io::Result<()> {
    let (control, count, end) = (words.text(0)?, words.number(1)?, words.end(2)?);
    let (token, own) = (env::var("MAINSTAY_TOKEN"), env::var("MAINSTAY_SOCKET"));
    let mut seats: Vec<UnixStream> = Vec::new();
    let mut welcomed = 0_u64;
    let mut take = |path: &str, token: Option<&str>| -> io::Result<()> {
        let Some(stream) = open(path)? else {
            return Ok(());
        };
        if hello(&stream, token).is_ok() {
            let mut answer = String::new();
            let read = BufReader::new(&stream).read_line(&mut answer);
            welcomed += u64::from(read.is_ok() && answer.contains("\"result\""));
        }
        seats.push(stream);
        Ok(())
    };
    let token = token.ok();
    if let (Some(token), Ok(own)) = (&token, own) {
        for _ in 0..70 {
            take(&own, Some(token))?;
        }
    }
    for number in 0..count {
        // Every other one shows the token where it does not belong.
        take(control, token.as_deref().filter(|_| number % 2 == 0))?;
    }
    under_way()?;
    thread::sleep(left(end));
    say(&format!("opened {}, welcomed {welcomed}", seats.len()))
}
