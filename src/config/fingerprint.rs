//! The hash of what a configuration says: the same content has the same one.
//! Owns what is hashed, and how, so that different trees differ.
//! Never depends on how or where a value is written.

use sha2::{Digest, Sha256};

use super::env_file::EnvFiles;
use super::launch::SystemConfig;
use super::layers::MergedLayers;
use super::runtime_layer::RuntimeValue;
use super::tree::TreeValue;

pub(crate) fn fingerprint(
    merged: &MergedLayers,
    system: &SystemConfig,
    env_files: &EnvFiles,
) -> String {
    let mut hash = Sha256::new();
    for path in [
        &system.project,
        &system.config_dir,
        &system.state_dir,
        &system.runtime_dir,
    ] {
        hash_field(&mut hash, b'p', path.as_os_str().as_encoded_bytes());
    }
    for (path, lines) in env_files.all() {
        hash_field(&mut hash, b'e', path.as_bytes());
        for (name, value) in &lines {
            hash_field(&mut hash, b'n', name.as_bytes());
            hash_field(&mut hash, b'v', value.as_bytes());
        }
    }
    // A value that the files have too is one more thing that differs from them.
    for RuntimeValue { path, value, .. } in &merged.overrides {
        hash_field(&mut hash, b'o', path.as_bytes());
        hash_field(&mut hash, b'v', value.as_bytes());
    }
    feed_tree(&mut hash, &merged.tree.value);
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Hashes kind, length and bytes, so that different trees differ.
fn hash_field(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    hash.update(head);
    hash.update(bytes);
}

fn feed_tree(hash: &mut Sha256, tree: &TreeValue) {
    match tree {
        TreeValue::Text(text) | TreeValue::Other(text) => hash_field(hash, b's', text.as_bytes()),
        TreeValue::Whole(value) => hash_field(hash, b'i', &value.to_le_bytes()),
        TreeValue::Number(value) => hash_field(hash, b'f', &value.to_bits().to_le_bytes()),
        TreeValue::Flag(value) => hash_field(hash, b'b', &[u8::from(*value)]),
        TreeValue::List(list) => {
            hash_field(hash, b'l', &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|node| feed_tree(hash, &node.value));
        }
        TreeValue::Table(table) => {
            hash_field(hash, b't', &(table.len() as u64).to_le_bytes());
            for (key, entry) in table {
                hash_field(hash, b'k', key.as_bytes());
                feed_tree(hash, &entry.node.value);
            }
        }
    }
}
