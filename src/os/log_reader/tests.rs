//! Lines of logs with and without an index: their times and runs, whatever happened to the index.
//! Owns logs in temporary folders, written as the holder writes them. Never starts a process.

use mainstay_process::log_index::{BLOCK_BYTES, IndexEncoder};

use std::time::Instant;

use super::following::PROMPT_DELAY;
use super::*;
use crate::os::log_index::index_path;
use crate::os::tail;

const BEGIN: u64 = 1_795_000_000_000;

/// A log that grows as under a holder.
struct Log {
    dir: tempfile::TempDir,
    text: Vec<u8>,
    index: Vec<u8>,
    encoder: IndexEncoder,
}

impl Log {
    fn new() -> Log {
        Log {
            dir: tempfile::tempdir().expect("a folder"),
            text: Vec::new(),
            index: Vec::new(),
            encoder: IndexEncoder::resume(0, 0, BEGIN),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("web.log")
    }

    /// A run starts, or the current one writes or ends; seconds after the beginning.
    fn start(&mut self, run: u64, at: u64) {
        self.encoder.start_run(run, BEGIN + 1000 * at);
        self.save();
    }

    fn write(&mut self, text: &str, at: u64) {
        self.write_to(StdStream::Both, text, at);
    }

    fn write_to(&mut self, stream: StdStream, text: &str, at: u64) {
        self.text.extend_from_slice(text.as_bytes());
        self.encoder
            .append(text.len() as u64, Some(BEGIN + 1000 * at), stream);
        self.save();
    }

    /// As [`Log::write_to`]; the files have it after [`Log::save`].
    fn write_unsaved(&mut self, stream: StdStream, text: &str, at: u64) {
        self.text.extend_from_slice(text.as_bytes());
        let at = BEGIN + 1000 * at;
        self.encoder.append(text.len() as u64, Some(at), stream);
        self.index.extend(self.encoder.take());
    }

    fn end(&mut self, run: u64, code: i32, at: u64) {
        self.encoder
            .end_run(run, Exit::Code(code), BEGIN + 1000 * at);
        self.save();
    }

    fn save(&mut self) {
        self.index.extend(self.encoder.take());
        std::fs::write(self.path(), &self.text).expect("written");
        std::fs::write(index_path(&self.path()), &self.index).expect("written");
    }

    fn rotate(&mut self) {
        let (path, next) = (self.path(), rotated(&self.path(), 1));
        std::fs::rename(index_path(&path), index_path(&next)).expect("renamed");
        std::fs::rename(&path, &next).expect("renamed");
        (self.text, self.index) = (Vec::new(), Vec::new());
        self.encoder = IndexEncoder::resume(0, 0, BEGIN);
    }

    fn lines(&self, filter: LogFilter) -> Vec<LogLine> {
        let mut reader = LogReader::open(&self.path(), filter).expect("opened");
        all(&mut reader)
    }
}

fn all(reader: &mut LogReader) -> Vec<LogLine> {
    std::iter::from_fn(|| reader.next_line().expect("read")).collect()
}

/// The seconds, the run and the text of each line.
fn said(lines: &[LogLine]) -> Vec<(Option<u64>, u64, String)> {
    let said = |line: &LogLine| {
        let at = line.at.map(|at| (at.0 - BEGIN) / 1000);
        (
            at,
            line.run,
            String::from_utf8_lossy(&line.text).into_owned(),
        )
    };
    lines.iter().map(said).collect()
}

fn line(at: u64, run: u64, text: &str) -> (Option<u64>, u64, String) {
    (Some(at), run, text.to_owned())
}

/// Three runs: the first ends without a newline, the second in the middle of a file.
fn three_runs() -> Log {
    let mut log = Log::new();
    log.start(1, 0);
    log.write("one\ntw", 1);
    log.write("o\nprompt: ", 2);
    log.end(1, 3, 3);
    log.start(2, 10);
    log.write("again\n", 11);
    log.end(2, 0, 12);
    log.start(3, 20);
    log.write("last\n", 21);
    log
}

#[test]
fn each_line_has_the_time_of_its_first_byte_and_ends_with_its_run() {
    let log = three_runs();
    let lines = log.lines(LogFilter::default());
    let expected = [
        line(1, 1, "one"),
        line(1, 1, "two"),
        line(2, 1, "prompt: "),
        line(11, 2, "again"),
        line(21, 3, "last"),
    ];
    assert_eq!(said(&lines), expected);
    let marks: Vec<RunMark> = lines.iter().filter_map(|line| line.mark).collect();
    assert_eq!(marks.len(), 3);
    let started = marks.iter().filter_map(|mark| mark.started);
    let at = |seconds: u64| Timestamp(BEGIN + 1000 * seconds);
    assert_eq!(
        started.collect::<Vec<_>>(),
        [(1, at(0)), (2, at(10)), (3, at(20))]
    );
    let ended = marks[1].ended.expect("an end");
    assert_eq!((ended.run, ended.exit, ended.at), (1, Exit::Code(3), at(3)));
    assert_eq!(ended.ran, Some(Duration::from_secs(3)));
}

#[test]
fn a_clock_that_is_set_back_hides_no_line_that_follows() {
    let mut log = Log::new();
    log.start(1, 100_000);
    for second in 0..2000 {
        log.write(&format!("before {second}\n"), 100_000 + 2 * second);
    }
    for second in 0..2000 {
        log.write(&format!("after {second}\n"), 2 * second);
    }
    log.end(1, 0, 4000);
    assert!(
        log.index.len() > 2 * 4096,
        "several blocks: {}",
        log.index.len()
    );
    let since = |second: u64| LogFilter {
        since: Some(Timestamp(BEGIN + 1000 * second)),
        ..LogFilter::default()
    };
    for second in [0, 1, 1998, 3998, 50_000] {
        let lines = log.lines(since(second));
        let after: Vec<_> = lines
            .iter()
            .filter(|line| line.text.starts_with(b"after"))
            .collect();
        let expected = (0..2000).filter(|line| 2 * line >= second).count();
        assert_eq!(after.len(), expected, "since {second}");
        let unordered = after.windows(2).find(|pair| pair[0].at > pair[1].at);
        let unordered = unordered.map(|pair| (said(&[pair[0].clone()]), said(&[pair[1].clone()])));
        assert_eq!(unordered, None, "since {second}");
    }
    let lines = log.lines(LogFilter::default());
    assert_eq!(lines.len(), 4000);
    assert_eq!(lines[2000].text, b"after 0", "in the order of writing");
}

#[test]
fn filters_take_what_is_inside() {
    let log = three_runs();
    let at = |seconds: u64| Some(Timestamp(BEGIN + 1000 * seconds));
    let texts = |filter| {
        let lines = log.lines(filter);
        lines
            .iter()
            .map(crate::os::tail::text)
            .collect::<Vec<_>>()
            .join(",")
    };
    let all = LogFilter::default;
    assert_eq!(
        texts(LogFilter {
            since: at(11),
            ..all()
        }),
        "again,last"
    );
    assert_eq!(
        texts(LogFilter {
            until: at(1),
            ..all()
        }),
        "one,two"
    );
    assert_eq!(
        texts(LogFilter {
            since: at(2),
            until: at(11),
            ..all()
        }),
        "prompt: ,again"
    );
    assert_eq!(
        texts(LogFilter {
            run: Some(2),
            ..all()
        }),
        "again"
    );
    for (pattern, found) in [
        ("^a", "again"),
        ("t$", "last"),
        ("o", "one,two,prompt: "),
        ("e\ntw", ""),
        ("^.{3}$", "one,two"),
        ("", "one,two,prompt: ,again,last"),
    ] {
        let grep = regex::bytes::RegexBuilder::new(pattern)
            .multi_line(true)
            .build()
            .ok();
        assert_eq!(texts(LogFilter { grep, ..all() }), found, "{pattern:?}");
    }
    let mut last = LogReader::open(&log.path(), all()).expect("opened");
    assert!(last.select_last_run());
    assert_eq!(said(&super::tests::all(&mut last)), [line(21, 3, "last")]);
    let mut previous = LogReader::open(&log.path(), all()).expect("opened");
    assert!(previous.select_previous_run());
    assert_eq!(
        said(&super::tests::all(&mut previous)),
        [line(11, 2, "again")]
    );
    let mut log = Log::new();
    log.start(1, 0);
    log.write("first\n", 1);
    let mut only = LogReader::open(&log.path(), all()).expect("opened");
    assert!(!only.select_previous_run(), "there is none before");
}

#[test]
fn the_newest_lines_are_found_from_the_end() {
    let mut log = three_runs();
    log.rotate();
    log.write("new\nes", 30);
    log.write("t\nunfinished", 31);
    for (count, expected) in [
        (0, ""),
        (1, "unfinished"),
        (2, "newest,unfinished"),
        (3, "new,newest,unfinished"),
        (4, "last,new,newest,unfinished"),
    ] {
        let mut reader = LogReader::open_last(&log.path(), count).expect("opened");
        let expected = expected
            .replace("new,newest", "new,est")
            .replace("newest", "est");
        let lines: Vec<String> = all(&mut reader).iter().map(crate::os::tail::text).collect();
        assert_eq!(lines.join(","), expected, "{count}");
    }
}

#[test]
fn an_index_that_is_cut_or_damaged_hides_no_line_and_tells_no_wrong_time() {
    let mut log = Log::new();
    log.start(1, 0);
    for number in 0..800 {
        log.write(&format!("line {number}\n"), number);
    }
    let whole = log.lines(LogFilter::default());
    assert_eq!(whole.len(), 800);
    assert!(whole.iter().all(|line| line.at.is_some() && line.run == 1));
    let check = |index: &[u8]| {
        std::fs::write(index_path(&log.path()), index).expect("written");
        let read = log.lines(LogFilter::default());
        assert_eq!(read.len(), whole.len());
        for (read, whole) in read.iter().zip(&whole) {
            assert_eq!(read.text, whole.text);
            assert!(
                read.at.is_none() || read.at == whole.at,
                "{read:?} for {whole:?}"
            );
        }
        read.iter().filter(|line| line.at.is_some()).count()
    };
    assert!(log.index.len() > 2 * BLOCK_BYTES);
    let mut timed = 0;
    for length in (0..log.index.len()).step_by(7) {
        let now = check(&log.index[..length]);
        assert!(now >= timed);
        timed = now;
    }
    for place in (0..2 * BLOCK_BYTES).step_by(41) {
        let mut index = log.index.clone();
        index[place] ^= 0x15;
        assert!(check(&index) > 0, "other blocks are whole");
    }
    check(b"this is no index");
    // Of a log that was longer: it is of another one.
    std::fs::write(log.path(), "line 0\n").expect("written");
    std::fs::write(index_path(&log.path()), &log.index).expect("written");
    let lines = log.lines(LogFilter::default());
    assert_eq!((lines.len(), lines[0].at), (1, None));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "silence is measured")]
fn a_log_that_grows_is_followed_through_rotation_and_truncation() {
    let mut log = three_runs();
    let mut reader = LogReader::open_last(&log.path(), 1).expect("opened");
    let next = |reader: &mut LogReader| {
        let mut lines = Vec::new();
        for _ in 0..2 {
            reader.refresh().expect("refreshed");
            lines.extend(std::iter::from_fn(|| reader.next_new().expect("read")));
        }
        said(&lines)
    };
    assert_eq!(next(&mut reader), [line(21, 3, "last")]);
    log.write("a\nb", 22);
    assert_eq!(next(&mut reader), [line(22, 3, "a")]);
    log.write("c\n", 23);
    assert_eq!(next(&mut reader), [line(22, 3, "bc")]);
    log.write("old\n", 24);
    log.rotate();
    log.write("new\n", 25);
    assert_eq!(next(&mut reader), [line(24, 3, "old"), line(25, 3, "new")]);
    log.text.clear();
    log.index.clear();
    log.encoder = IndexEncoder::resume(0, 0, BEGIN);
    log.write("x\n", 26);
    assert_eq!(next(&mut reader), [line(26, 3, "x")]);
    // A prompt is shown when nothing follows it.
    log.write("password: ", 27);
    let begin = Instant::now();
    let prompt = loop {
        let lines = next(&mut reader);
        if !lines.is_empty() || begin.elapsed() > Duration::from_secs(20) {
            break lines;
        }
    };
    assert_eq!(prompt, [line(27, 3, "password: ")]);
    assert!(begin.elapsed() >= PROMPT_DELAY);
}

#[test]
fn a_huge_line_is_kept_in_part_and_its_length_is_known() {
    let mut log = Log::new();
    log.write("one\n", 0);
    log.write(&("x".repeat(3 * LINE_MAX) + "\nlast\n"), 1);
    let lines = log.lines(LogFilter::default());
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[1].text.len(), lines[1].length),
        (LINE_MAX, 3 * LINE_MAX as u64)
    );
    assert_eq!(lines[2].text, b"last");
}

const OUT: StdStream = StdStream::Stdout;
const ERR: StdStream = StdStream::Stderr;

/// Lines of both streams that interrupt each other, in two runs.
fn two_streams() -> Log {
    let mut log = Log::new();
    log.start(1, 0);
    log.write_to(OUT, "one\nha", 1);
    log.write_to(ERR, "error\nwar", 2);
    log.write_to(OUT, "lf\nlast ", 3);
    log.write_to(ERR, "ning\nno newline", 4);
    log.end(1, 1, 5);
    log.start(2, 10);
    log.write_to(ERR, "again\n", 11);
    log.write_to(OUT, "prompt: ", 12);
    log
}

/// The seconds, the stream and the text of each line.
fn with_streams(lines: &[LogLine]) -> Vec<(u64, StdStream, String)> {
    let said = said(lines).into_iter().zip(lines);
    let said = said.map(|((at, _, text), line)| (at.unwrap_or_default(), line.stream, text));
    said.collect()
}

fn of(at: u64, stream: StdStream, text: &str) -> (u64, StdStream, String) {
    (at, stream, text.to_owned())
}

#[test]
fn lines_of_two_streams_are_put_together_whatever_came_between() {
    let log = two_streams();
    let all = [
        of(1, OUT, "one"),
        of(2, ERR, "error"),
        of(1, OUT, "half"),
        of(2, ERR, "warning"),
        of(4, ERR, "no newline"),
        of(3, OUT, "last "),
        of(11, ERR, "again"),
        of(12, OUT, "prompt: "),
    ];
    let lines = log.lines(LogFilter::default());
    assert_eq!(with_streams(&lines), all);
    let marks: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].mark.is_some())
        .collect();
    assert_eq!(marks, [0, 6]);
    for stream in [OUT, ERR] {
        let own = all.iter().filter(|line| line.1 == stream).cloned();
        let filter = LogFilter {
            stream: Some(stream),
            ..LogFilter::default()
        };
        let mut reader = LogReader::open(&log.path(), filter).expect("opened");
        let lines = self::all(&mut reader);
        assert_eq!(with_streams(&lines), own.collect::<Vec<_>>());
        assert!(!reader.hides_unknown());
    }
    // From the middle: a line that began before is not shown.
    let filter = LogFilter {
        since: Some(Timestamp(BEGIN + 4000)),
        ..LogFilter::default()
    };
    let since = with_streams(&log.lines(filter));
    assert_eq!(since, [all[4].clone(), all[6].clone(), all[7].clone()]);
    for count in 1..=all.len() {
        let lines = tail::newest(&log.path(), LogFilter::default(), count, 1 << 20);
        let lines = with_streams(&lines.expect("read"));
        assert_eq!(lines, all[all.len() - count..], "the newest {count}");
    }
}

#[test]
fn many_lines_of_two_streams_are_found_from_anywhere() {
    let mut log = Log::new();
    log.start(1, 0);
    let mut expected = [0_u64; 2];
    // The halves of lines, a line of stderr for two of stdout, as long as the index may describe each
    // change; many chunks, and many blocks.
    for number in 0..12_000_u64 {
        let text = format!("{number} {}", "x".repeat(200));
        log.write_unsaved(OUT, &text, number);
        if number % 2 == 0 {
            log.write_unsaved(ERR, &format!("e{number}"), number);
        }
        log.write_unsaved(OUT, "\n", number);
        if number % 2 == 0 {
            log.write_unsaved(ERR, "\n", number);
        }
        expected[0] += 1;
        expected[1] += u64::from(number % 2 == 0);
    }
    log.save();
    let is_whole = |line: &LogLine| {
        let text = String::from_utf8_lossy(&line.text);
        match line.stream {
            OUT => text.ends_with("x") && text.len() > 200,
            _ => text.starts_with('e') && text.len() < 7,
        }
    };
    for since in [0, 1, 777, 6000, 11_998] {
        let filter = LogFilter {
            since: Some(Timestamp(BEGIN + 1000 * since)),
            ..LogFilter::default()
        };
        let lines = log.lines(filter);
        let broken = lines.iter().find(|line| !is_whole(line));
        assert_eq!(broken, None, "since {since}");
        let count = |stream| lines.iter().filter(|line| line.stream == stream).count() as u64;
        assert_eq!(count(OUT), 12_000 - since, "since {since}");
        assert_eq!(count(ERR), 6000 - since.div_ceil(2), "since {since}");
    }
    for (stream, expected) in [(OUT, expected[0]), (ERR, expected[1])] {
        let filter = LogFilter {
            stream: Some(stream),
            grep: Some(LogFilter::pattern("^(e|.*x$)").expect("a pattern")),
            ..LogFilter::default()
        };
        assert_eq!(log.lines(filter).len() as u64, expected);
    }
    let newest = tail::newest(&log.path(), LogFilter::default(), 100, 1 << 20).expect("read");
    assert!(newest.len() == 100 && newest.iter().all(is_whole));
}

#[test]
fn of_one_pipe_no_line_is_known_to_be_of_a_stream() {
    let log = three_runs();
    let filter = LogFilter {
        stream: Some(ERR),
        ..LogFilter::default()
    };
    let mut reader = LogReader::open(&log.path(), filter).expect("opened");
    assert_eq!(all(&mut reader), []);
    assert!(reader.hides_unknown());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "silence is measured")]
fn a_prompt_of_either_stream_is_shown_while_both_are_followed() {
    let mut log = Log::new();
    log.start(1, 0);
    log.write_to(OUT, "one\nname: ", 1);
    log.write_to(ERR, "careful", 2);
    let mut reader = LogReader::open(&log.path(), LogFilter::default()).expect("opened");
    let mut lines = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while lines.len() < 3 && Instant::now() < end {
        reader.refresh().expect("looked");
        while let Some(line) = reader.next_new().expect("read") {
            lines.push(line);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut said = with_streams(&lines);
    said.sort_by_key(|line| line.0);
    assert_eq!(
        said,
        [
            of(1, OUT, "one"),
            of(1, OUT, "name: "),
            of(2, ERR, "careful")
        ]
    );
    assert!(!reader.has_unfinished());
}
