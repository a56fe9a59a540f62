//! The blocking client: one connection, no runtime, deadlines by socket timeouts.
//! Owns the socket and the clock of one connection.
//! Never waits longer than it was told.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_local_socket::blocking::{Stream, connect};
use mainstay_protocol::config_values::{ConfigGetParams, ConfigValue, ConfigValues};
use mainstay_protocol::method::{
    ChangeParams, ChangeResult, Empty, EventsParams, EventsResult, GraphView, Hello, LogLines,
    LogsParams, StopParams, SubscribeResult, Welcome, WhyParams, WhyResult, name,
};
use mainstay_protocol::{Event, ModuleView, RequestError, SystemView};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::sans_io::{ClientConnection, NotificationPayload};
use crate::typed::{
    change_timeout, check_welcome, client_hello, is_too_long, named, next_page,
    placeholder_welcome, typed_calls,
};
use crate::{CALL_TIMEOUT, Error};

/// A connection to a running mainstay.
pub struct Client {
    stream: Stream,
    connection: ClientConnection,
    timeout: Duration,
    welcome: Welcome,
    /// Calls that were sent with `hello` and whose replies were not asked for yet.
    ahead: VecDeque<(&'static str, u64)>,
}

impl Client {
    /// Connects to the control socket and says hello.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when nothing listens there; any other [`Error`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Client, Error> {
        Client::connect_as(path, &client_hello(), CALL_TIMEOUT)
    }

    /// Connects with its own words of `hello`; `timeout` is for connecting and for each call.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_as(
        path: impl AsRef<Path>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<Client, Error> {
        Client::connect_calling(path, hello, timeout, &[])
    }

    /// Connects and sends calls without parameters in one write with `hello`: their replies follow
    /// its own without another round trip. They are for the next calls, if these are the same in
    /// the same order; otherwise they are passed over.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_calling(
        path: impl AsRef<Path>,
        hello: &Hello,
        timeout: Duration,
        methods: &[&'static str],
    ) -> Result<Client, Error> {
        let path = path.as_ref();
        let stream = connect(path, timeout).map_err(|source| Error::connecting(path, source))?;
        let mut client = Client {
            stream,
            connection: ClientConnection::new(path.to_owned()),
            timeout,
            welcome: placeholder_welcome(),
            ahead: VecDeque::new(),
        };
        let greeting = client.connection.queue_call(name::HELLO, hello)?;
        for method in methods {
            let id = client.connection.queue_call(method, Empty {})?;
            client.ahead.push_back((method, id));
        }
        let welcome = client.reply_within(greeting, name::HELLO, timeout)?;
        client.welcome = check_welcome(welcome)?;
        Ok(client)
    }

    typed_calls!();

    /// Calls any method and waits for its reply at most this long.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_within<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
        timeout: Duration,
    ) -> Result<R, Error> {
        let id = match self.ahead.pop_front() {
            Some((sent, id)) if sent == method && is_empty(&params) => id,
            _ => {
                self.ahead.clear();
                self.connection.queue_call(method, params)?
            }
        };
        self.reply_within(id, method, timeout)
    }

    /// Sends what is queued and waits for the reply to the call `id`.
    #[expect(clippy::disallowed_methods, reason = "a client waits on its own clock")]
    fn reply_within<R: DeserializeOwned>(
        &mut self,
        id: u64,
        method: &str,
        timeout: Duration,
    ) -> Result<R, Error> {
        let late = || Error::Timeout {
            method: method.to_owned(),
            after: timeout,
        };
        let until = Instant::now() + timeout;
        while !self.connection.unsent().is_empty() {
            if !self.write_some(until)? {
                return Err(late());
            }
        }
        loop {
            if let Some(result) = self.connection.reply(id, method)? {
                return Ok(result);
            }
            if !self.read_some(Some(until))? {
                return Err(late());
            }
        }
    }

    /// Requests several changes at once and calls `on_result` for each result as it arrives, with
    /// the position of its change. The server works on at most 64 of a connection at a time.
    ///
    /// # Errors
    /// As [`Client::call`], but for [`Error::Refused`]: refusals are results.
    #[expect(clippy::disallowed_methods, reason = "a client waits on its own clock")]
    pub fn change_all(
        &mut self,
        method: &str,
        changes: &[ChangeParams],
        mut on_result: impl FnMut(usize, Result<ChangeResult, RequestError>),
    ) -> Result<(), Error> {
        self.ahead.clear(); // their replies are passed over
        let waits = changes
            .iter()
            .map(|change| change_timeout(change, self.timeout));
        let timeout = waits.max().unwrap_or(self.timeout);
        let until = Instant::now() + timeout;
        let late = || Error::Timeout {
            method: method.to_owned(),
            after: timeout,
        };
        let mut pending: Vec<(u64, usize)> = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            pending.push((self.connection.queue_call(method, change)?, index));
        }
        while !self.connection.unsent().is_empty() {
            if !self.write_some(until)? {
                return Err(late());
            }
        }
        while !pending.is_empty() {
            let ids: Vec<u64> = pending.iter().map(|(id, _)| *id).collect();
            if let Some((position, result)) = self.connection.reply_to_any(&ids, method)? {
                on_result(pending.remove(position).1, result);
            } else if !self.read_some(Some(until))? {
                return Err(late());
            }
        }
        Ok(())
    }

    /// The next notification of a kind that was subscribed to; None when `wait` is over.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ConnectionLost`], [`Error::TooLong`], [`Error::Malformed`].
    #[expect(clippy::disallowed_methods, reason = "a client waits on its own clock")]
    pub fn notification<T: NotificationPayload>(
        &mut self,
        wait: Option<Duration>,
    ) -> Result<Option<T>, Error> {
        self.ahead.clear(); // their replies are passed over from here on
        let until = wait.map(|wait| Instant::now() + wait);
        loop {
            if let Some(notification) = self.connection.notification()? {
                return Ok(Some(notification));
            }
            if !self.read_some(until)? {
                return Ok(None);
            }
        }
    }

    /// Whether something was written before `until`.
    fn write_some(&mut self, until: Instant) -> Result<bool, Error> {
        let Some(left) = left(until) else {
            return Ok(false);
        };
        let broke = |source| self.connection.broke(source);
        self.stream.set_write_timeout(Some(left)).map_err(broke)?;
        match (&self.stream).write(self.connection.unsent()) {
            Ok(count) => self.connection.wrote(count),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(self.connection.broke(error)),
        }
        Ok(true)
    }

    /// Whether there was time left to read; what arrived is in the connection.
    fn read_some(&mut self, until: Option<Instant>) -> Result<bool, Error> {
        let left = until.map(left);
        if left == Some(None) {
            return Ok(false);
        }
        let timeout = self.stream.set_read_timeout(left.flatten());
        timeout.map_err(|source| self.connection.broke(source))?;
        match (&self.stream).read(self.connection.room()) {
            Ok(count) => self.connection.received(count)?,
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(self.connection.broke(error)),
        }
        Ok(true)
    }
}

/// Whether these are the parameters of a call that was sent ahead.
fn is_empty(params: &impl Serialize) -> bool {
    serde_json::to_value(params).is_ok_and(|params| params == serde_json::json!({}))
}

/// Time left; a socket timeout of zero would mean none at all.
#[expect(clippy::disallowed_methods, reason = "a client waits on its own clock")]
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A connection that follows what it subscribed to. Ends after the first error.
pub struct Subscription<T> {
    client: Client,
    ended: bool,
    followed: PhantomData<T>,
}

impl<T: NotificationPayload> Subscription<T> {
    /// The next one; None when `wait` is over.
    ///
    /// # Errors
    /// As [`Client::notification`].
    pub fn next_within(&mut self, wait: Duration) -> Result<Option<T>, Error> {
        self.client.notification(Some(wait))
    }
}

impl<T: NotificationPayload> Iterator for Subscription<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Result<T, Error>> {
        if self.ended {
            return None;
        }
        let next = self.client.notification(None).transpose()?;
        self.ended = next.is_err();
        Some(next)
    }
}
