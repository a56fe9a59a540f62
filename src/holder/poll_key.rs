//! The numbers by which the poller names its descriptors: what an event is about, not what it is.
//! A key with a number is that of an instance.

pub(crate) const CHANNEL: u64 = 1 << 56;
pub(crate) const SIGNALS: u64 = 2 << 56;
pub(crate) const QUEUE: u64 = 3 << 56;
pub(crate) const READY: u64 = 5 << 56;
pub(crate) const PROCESS: u64 = 6 << 56;
pub(crate) const FORMER: u64 = 7 << 56;
pub(crate) const NOTIFY: u64 = 8 << 56;
/// With the place of the socket between this and the instance.
pub(crate) const ACTIVATION: u64 = 9 << 56;
/// The runtime, where it is no child of this process.
pub(crate) const RUNTIME: u64 = 10 << 56;
pub(crate) const KIND: u64 = 0xff << 56;
