//! Both clients against a server that says what each test wants it to say.
//! Never needs a mainstay.
#![cfg(unix)]

#[cfg(feature = "async")]
mod asynchronous;
mod blocking;
mod fake;
