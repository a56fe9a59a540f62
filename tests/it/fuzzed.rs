//! The bodies of the fuzz targets with a fixed seed: so many mutations of good input, every time.
//! Owns the seeds and the mutations. Never runs longer than a few seconds.

#[path = "../../fuzz/bodies.rs"]
#[expect(unreachable_pub, reason = "it is the library of the fuzz targets too")]
mod bodies;

use mainstay_holder::messages::HolderRequest;
use serde_json::json;

/// A small generator: the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a size")
    }
}

/// Good input with a few bytes changed, left out, said twice or put in from elsewhere.
fn mutated(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [
        b"\"",
        b"{",
        b"}",
        b"[[",
        b"null",
        b"-1",
        b"1e999",
        b"\xff\xfe",
        b"\\u0000",
        b"\n= \"x\"\n",
    ];
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(20)).min(bytes.len());
        match chance.below(5) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).expect("a byte"),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let twice = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, twice));
            }
            3 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                drop(bytes.splice(at..at, other[from..(from + 30).min(other.len())].to_vec()));
            }
            _ => drop(bytes.splice(at..at, WORDS[chance.below(WORDS.len())].to_vec())),
        }
    }
    bytes
}

/// What the fuzzer once fell over, for the body of this name.
fn regressions(name: &str) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/regressions");
    let files = std::fs::read_dir(std::path::Path::new(folder).join(name)).expect("a folder");
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read(file.expect("an entry").path()).expect("a file")
    };
    files.map(read).collect()
}

#[test]
fn what_the_fuzzer_once_fell_over_is_read_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for bytes in regressions("configuration") {
        bodies::configuration(folder.path(), &bytes);
    }
    for bytes in regressions("ipc_line") {
        bodies::ipc_line(&bytes);
    }
}

#[test]
fn any_line_on_the_socket_gets_an_answer() {
    let seeds: Vec<Vec<u8>> = [
        r#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"client":"x","protocol":1,"token":"a.1.ff"}}"#,
        r#"{"jsonrpc":"2.0","id":"two","method":"module.restart","params":{"module":"a","dry_run":true,"wait":false}}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"events.subscribe","params":{"since":7,"kinds":["module.ready"],"module":"a"}}"#,
        r#"{"jsonrpc":"2.0","method":"logs.read","params":{"module":"a","lines":10,"follow":true}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"bus.call","params":{"module":"a","method":"m","params":{"x":[1,2]},"timeout_ms":5}}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"module.health","params":{"status":"healthy","metrics":{"q":1.5},"issues":["x"]}}"#,
        r#"{"jsonrpc":"2.0","id":6,"result":{"ok":true}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"cannot","data":{"code":"busy"}}}"#,
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .into();
    for seed in &seeds {
        bodies::ipc_line(seed);
    }
    let mut chance = Chance(0x6d61_696e_7374_6179);
    for _ in 0..20_000 {
        bodies::ipc_line(&mutated(&mut chance, &seeds));
    }
}

#[test]
fn any_frame_of_the_wire_is_read_or_refused_however_it_is_cut() {
    let mut seeds = Vec::new();
    for count in 1..4 {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let spawn = json!({
                "type": "spawn", "instance": "a", "generation": 1, "argv": vec!["a"; count],
                "directory": "/", "env": [["A", "b"]],
            });
            let ask: HolderRequest = serde_json::from_value(spawn).expect("what the holder reads");
            mainstay_holder::encode(&ask, &mut bytes).expect("a frame");
        }
        bodies::holder_frames(&bytes);
        seeds.push(bytes);
    }
    let mut chance = Chance(0x686f_6c64_6572);
    for _ in 0..5_000 {
        bodies::holder_frames(&mutated(&mut chance, &seeds));
    }
}

#[test]
fn any_text_of_a_configuration_is_taken_or_told() {
    let shipped = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/config/mainstay.toml"));
    let small = "[mainstay]\nname = \"x\"\n[health]\ninterval = \"5s\"\n[module.a]\ncommand = [\"a\"]\n\
        env = { A = \"${project}\" }\nrequires = [{ module = \"b\", until = \"started\" }]\n\
        ready = { tcp = \"127.0.0.1:1\" }\n[module.b]\ncommand = [\"b\"]\n";
    let seeds = [
        shipped.expect("the shipped one"),
        small.as_bytes().to_vec(),
        small.as_bytes().to_vec(),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for seed in &seeds {
        bodies::configuration(folder.path(), seed);
    }
    let mut chance = Chance(0x636f_6e66_6967);
    for _ in 0..500 {
        bodies::configuration(folder.path(), &mutated(&mut chance, &seeds));
    }
}

#[test]
fn any_text_of_an_env_file_is_read_or_refused() {
    let seeds = [
        "\u{feff}# c\r\nexport A=1\r\nB= # empty\nC=tab\t# c\nD=$A/${B} $ $1\n",
        "A=\"x\\n\\t\\\"\\\\\\$ ${B}\" # c\nB='literal $A\nover lines'\nC=\"a\" \"b\"\n",
        "nonsense\n=x\nA B=x\nC=\"\\q\"\nD=\"never closed\n",
    ]
    .map(|seed| seed.as_bytes().to_vec());
    let folder = tempfile::tempdir().expect("a folder");
    for seed in &seeds {
        bodies::env_file(folder.path(), seed);
    }
    let mut chance = Chance(0x65_6e76_6669_6c65);
    for _ in 0..2_000 {
        bodies::env_file(folder.path(), &mutated(&mut chance, &seeds));
    }
}
