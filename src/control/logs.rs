//! `logs.read`: the newest lines of a module's output, and what it writes from then on.
//! Owns the limits of a request.
//! Never holds up a module: output that a follower is too slow for is counted as dropped.

use std::sync::Arc;

use mainstay_policy::ModuleId;
use mainstay_process::StdStream;
use mainstay_protocol::method::{LineStamp, LogLines, LogsParams, name};
use mainstay_protocol::methods::LogsRead;
use mainstay_protocol::{ErrorCode, RequestError, RpcRequest};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::modules::find_module;
use super::paging::{RESULT_BYTES_MAX, newest_that_fit};
use super::{Answer, Caller, MethodResult, NextNotification, Notifications, internal};
use crate::actors::RuntimeContext;
use crate::actors::log_followers::OutputChunk;
use crate::config::LogFormat;
use crate::os::log_reader::{LogFilter, LogLine, stamp};
use crate::os::tail;

/// Lines, when the client does not say.
const LINES_DEFAULT: usize = 100;
/// Lines, at most.
const LINES_MAX: usize = 10_000;

/// Bytes of all lines together: a long one is shortened. As JSON they take more, the second time
/// less than fits in any case.
const ROOMS: [usize; 2] = [RESULT_BYTES_MAX / 2, RESULT_BYTES_MAX / 16];

/// Returns the newest lines of a module's output, oldest first.
///
/// # Errors
/// `internal` when the file cannot be read.
pub(crate) async fn last_lines(
    ctx: &RuntimeContext,
    module: ModuleId,
    count: Option<usize>,
) -> Result<Vec<String>, RequestError> {
    let lines = read_lines(ctx, module, LogFilter::default(), count, ROOMS[0]).await?;
    Ok(lines.iter().map(tail::text).collect())
}

async fn read_lines(
    ctx: &RuntimeContext,
    module: ModuleId,
    filter: LogFilter,
    count: Option<usize>,
    room: usize,
) -> Result<Vec<LogLine>, RequestError> {
    let count = count.unwrap_or(LINES_DEFAULT).min(LINES_MAX);
    let path = ctx.log_file(module);
    tokio::task::spawn_blocking(move || tail::newest(&path, filter, count, room as u64))
        .await
        .map_err(internal)?
        .map_err(internal)
}

/// Returns the newest lines, shortened so that they fit into a line of the protocol.
async fn fitting_lines(
    ctx: &RuntimeContext,
    id: ModuleId,
    params: &LogsParams,
    as_json: bool,
) -> Result<LogLines, RequestError> {
    let filter = filter(params).await?;
    let mut result = log_lines(params.module.clone(), Vec::new(), as_json, 0);
    for room in ROOMS {
        let lines = read_lines(ctx, id, filter.clone(), params.lines, room).await?;
        let count = lines.len();
        let stamped = lines.iter().map(|line| (tail::text(line), line.stamp()));
        result = log_lines(params.module.clone(), stamped.collect(), as_json, 0);
        if result.lines.len() == count {
            break;
        }
    }
    result.file = Some(ctx.log_file(id).display().to_string());
    Ok(result)
}

async fn filter(params: &LogsParams) -> Result<LogFilter, RequestError> {
    let pattern = params.grep.clone();
    let compile = move || pattern.as_deref().map(LogFilter::pattern).transpose();
    let grep = tokio::task::spawn_blocking(compile).await;
    let grep = grep.map_err(internal)?.map_err(|error| {
        let text = format!("cannot read grep: {error}");
        RequestError::new(ErrorCode::InvalidParams, text)
    })?;
    let stream = stamp::from_protocol(params.stream);
    if params.stream.is_some() && stream.is_both() {
        let text = "cannot read stream: use stdout or stderr";
        return Err(RequestError::new(ErrorCode::InvalidParams, text));
    }
    Ok(LogFilter {
        since: params.since,
        until: params.until,
        run: params.run,
        stream: params.stream.map(|_| stream),
        grep,
    })
}

impl Answer for LogsRead {
    async fn answer(
        ctx: &Arc<RuntimeContext>,
        _: &Caller,
        params: Self::Params,
    ) -> Result<MethodResult<Self::Result>, RequestError> {
        let id = find_module(ctx, &params.module)?;
        let as_json = ctx.configuration().system.logs.format == LogFormat::Json;
        // Followed first and read then: a line can come twice where they meet, none is missed.
        let follower = params.follow.then(|| LogTapGuard::open(ctx, id));
        if follower.is_some() {
            ctx.os.flush_output(&ctx.instance(id)).await;
        }
        let result = fitting_lines(ctx, id, &params, as_json).await?;
        Ok(match follower {
            None => MethodResult::Now(result),
            Some(tap) => {
                let stream = LogNotifications {
                    tap,
                    stream: params.stream.map(|_| stamp::from_protocol(params.stream)),
                    module: params.module,
                    as_json,
                };
                MethodResult::Stream(result, Box::new(stream))
            }
        })
    }
}

/// The newest lines that fit into a line of the protocol; with `as_json` also the objects they are.
fn log_lines(
    module: String,
    lines: Vec<(String, LineStamp)>,
    as_json: bool,
    dropped_bytes: u64,
) -> LogLines {
    let object = |line: &str| serde_json::from_str(line).ok().filter(Value::is_object);
    let all = lines.into_iter().map(|(line, stamp)| {
        let record: Option<Value> = as_json.then(|| object(&line)).flatten();
        (line, stamp, record)
    });
    let mut result = LogLines {
        module,
        dropped_bytes,
        ..LogLines::default()
    };
    for (line, stamp, record) in newest_that_fit(all.collect()) {
        result.lines.push(line);
        result.stamps.push(stamp);
        if as_json {
            result.records.push(record);
        }
    }
    result
}

/// A follower of a module's output; closes the tap of the holder with the last follower.
struct LogTapGuard {
    ctx: Arc<RuntimeContext>,
    id: ModuleId,
    chunks: mpsc::Receiver<OutputChunk>,
}

impl LogTapGuard {
    fn open(ctx: &Arc<RuntimeContext>, id: ModuleId) -> LogTapGuard {
        let chunks = ctx.log_followers.follow(&*ctx.os, &ctx.instance(id), id);
        LogTapGuard {
            ctx: Arc::clone(ctx),
            id,
            chunks,
        }
    }
}

impl Drop for LogTapGuard {
    fn drop(&mut self) {
        self.chunks.close();
        let ctx = &self.ctx;
        ctx.log_followers
            .release_tap(&*ctx.os, &ctx.instance(self.id), self.id);
    }
}

struct LogNotifications {
    tap: LogTapGuard,
    module: String,
    /// Of which stream output is sent; none: of both.
    stream: Option<StdStream>,
    as_json: bool,
}

impl Notifications for LogNotifications {
    fn next(&mut self) -> NextNotification<'_> {
        Box::pin(async move {
            let mut dropped_bytes = 0;
            let chunk = loop {
                let chunk = self.tap.chunks.recv().await?;
                dropped_bytes += chunk.dropped_bytes;
                if self.stream.is_none_or(|stream| stream == chunk.stream) {
                    break chunk;
                }
            };
            let stamp = LineStamp {
                at: Some(self.tap.ctx.os.wall_clock()),
                run: None,
                stream: stamp::to_protocol(chunk.stream),
            };
            let lines = chunk.text.lines().map(|line| (line.to_owned(), stamp));
            let lines = lines.collect();
            let module = self.module.clone();
            let lines = log_lines(module, lines, self.as_json, dropped_bytes);
            Some(Ok(RpcRequest::notification(name::LOG, json!(lines))))
        })
    }
}
