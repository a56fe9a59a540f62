//! The lines of one run: the newest, or the one before it.
//! Owns where a run begins in the files of a log. Never reads a line.

use super::LogReader;

impl LogReader {
    /// Restricts the lines to the newest run. Returns false if no start of a run is known.
    pub(crate) fn select_last_run(&mut self) -> bool {
        let found = self.last_start(u64::MAX);
        if let Some((file, start, _)) = found {
            self.begin_at(file, start);
        }
        found.is_some()
    }

    /// Restricts the lines to the run before the newest. Returns false if none is known.
    pub(crate) fn select_previous_run(&mut self) -> bool {
        let newest = self.last_start(u64::MAX);
        let previous = newest.and_then(|(_, _, run)| self.last_start(run));
        if let Some((file, start, run)) = previous {
            self.begin_at(file, start);
            self.filter.run = Some(run);
        }
        previous.is_some()
    }

    /// The newest start of a run before run `before`: the file, the place in it, and the run.
    fn last_start(&mut self, before: u64) -> Option<(usize, u64, u64)> {
        let files = self.files.iter_mut().enumerate().rev();
        let mut starts = files.filter_map(|(number, file)| {
            let (start, run) = file.index.as_mut()?.last_start(before)?;
            Some((number, start, run))
        });
        starts.next()
    }

    fn begin_at(&mut self, file: usize, start: u64) {
        self.files.drain(..file);
        self.position = start;
        (self.open, self.other) = Default::default();
    }
}
