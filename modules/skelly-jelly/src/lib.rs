//! skelly-jelly, the demo application: programs that watch this machine and cheer its user on.
//! Owns what the programs share: samples, scores, points, texts, the store, the main loop.
//! Never uses the network, and never needs a neighbour to stay alive.

pub mod app;
pub mod atomic;
pub mod points;
pub mod sample;
pub mod scoring;
pub mod store;
pub mod texts;
pub mod vitals;
