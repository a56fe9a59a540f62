//! The end of an embedded runtime, however it comes.
//! Owns the engine's thread, a second grip on its wire, and the tasks' cancellation.
//! Never leaves a process behind: when the application's tokio runtime goes first, it waits here.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::os::embedded::EmbeddedOs;
use crate::os::transport::{HolderEndpoint, ShutdownHandle};

/// Ends tasks and processes when it is dropped.
pub(super) struct EngineGuard {
    wire: ShutdownHandle,
    engine: Option<JoinHandle<u8>>,
    direct: Option<Arc<EmbeddedOs>>,
}

impl EngineGuard {
    /// Guards an engine from the moment on that it runs.
    pub(super) fn new(
        wire: &HolderEndpoint,
        engine: JoinHandle<u8>,
    ) -> std::io::Result<EngineGuard> {
        Ok(EngineGuard {
            wire: wire.shutdown_handle()?,
            engine: Some(engine),
            direct: None,
        })
    }

    /// Guards the tasks too.
    pub(super) fn guard(&mut self, direct: Arc<EmbeddedOs>) {
        self.direct = Some(direct);
    }
}

impl Drop for EngineGuard {
    /// At most as long as killed processes take to be gone (5 s).
    fn drop(&mut self) {
        if let Some(direct) = &self.direct {
            direct.abort_all();
        }
        self.wire.end();
        if let Some(engine) = self.engine.take() {
            let _code_or_panic = engine.join();
        }
    }
}
