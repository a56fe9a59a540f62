//! The async client, on tokio: the same calls, deadlines by tokio's clock.
//! Owns the socket of one connection. A call that is dropped half-way leaves the connection whole.
//! Never spawns a task.

use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use mainstay_local_socket::asynchronous::{Stream, connect};
use mainstay_protocol::config_values::{ConfigGetParams, ConfigValue, ConfigValues};
use mainstay_protocol::method::{
    ChangeParams, ChangeResult, Empty, EventsParams, EventsResult, GraphView, Hello, LogLines,
    LogsParams, StopParams, SubscribeResult, Welcome, WhyParams, WhyResult, name,
};
use mainstay_protocol::{Event, ModuleView, SystemView};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

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
}

impl Client {
    /// Connects to the control socket and says hello.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when nothing listens there; any other [`Error`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Client, Error> {
        Client::connect_as(path, &client_hello(), CALL_TIMEOUT).await
    }

    /// Connects with its own words of `hello`; `timeout` is for connecting and for each call.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_as(
        path: impl AsRef<Path>,
        hello: &Hello,
        timeout: Duration,
    ) -> Result<Client, Error> {
        let path = path.as_ref();
        let stream = connect(path, timeout).await;
        let stream = stream.map_err(|source| Error::connecting(path, source))?;
        let connection = ClientConnection::new(path.to_owned());
        let mut client = Client {
            stream,
            connection,
            timeout,
            welcome: placeholder_welcome(),
        };
        let welcome = client.call(name::HELLO, hello).await?;
        client.welcome = check_welcome(welcome)?;
        Ok(client)
    }

    typed_calls!((async await));

    /// Calls any method and waits for its reply at most this long.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_within<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
        timeout: Duration,
    ) -> Result<R, Error> {
        let id = self.connection.queue_call(method, params)?;
        let answered = timeout_at(Instant::now() + timeout, self.answer(id, method)).await;
        answered.unwrap_or_else(|_| {
            Err(Error::Timeout {
                method: method.to_owned(),
                after: timeout,
            })
        })
    }

    async fn answer<R: DeserializeOwned>(&mut self, id: u64, method: &str) -> Result<R, Error> {
        while !self.connection.unsent().is_empty() {
            let wrote = self.stream.write(self.connection.unsent()).await;
            let count = wrote.map_err(|source| self.connection.broke(source))?;
            self.connection.wrote(count);
        }
        loop {
            if let Some(result) = self.connection.reply(id, method)? {
                return Ok(result);
            }
            self.read_some().await?;
        }
    }

    /// The next notification of a kind that was subscribed to. It may be dropped half-way: nothing
    /// is lost.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ConnectionLost`], [`Error::TooLong`], [`Error::Malformed`].
    pub async fn notification<T: NotificationPayload>(&mut self) -> Result<T, Error> {
        loop {
            if let Some(notification) = self.connection.notification()? {
                return Ok(notification);
            }
            self.read_some().await?;
        }
    }

    async fn read_some(&mut self) -> Result<(), Error> {
        let read = self.stream.read(self.connection.room()).await;
        let count = read.map_err(|source| self.connection.broke(source))?;
        self.connection.received(count)
    }
}

/// A connection that follows what it subscribed to. Ends after the first error.
pub struct Subscription<T> {
    client: Client,
    ended: bool,
    followed: PhantomData<T>,
}

impl<T: NotificationPayload> Subscription<T> {
    /// The next one; None after an error. It may be dropped half-way: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        if self.ended {
            return None;
        }
        let next = self.client.notification().await;
        self.ended = next.is_err();
        Some(next)
    }
}
