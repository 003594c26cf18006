//! The number of rows that are read at a time.

/// Size below which a full page is followed by one with twice as many rows.
const SMALL_PAGE_BYTES: usize = 4 << 20;
/// Size above which a page is followed by one with half as many rows.
const LARGE_PAGE_BYTES: usize = 32 << 20;

/// The number of rows of the next page. Small rows are read in large pages, so that many share the
/// cost of a page; large rows must not fill the memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    rows: usize,
    max: usize,
}

impl PageSize {
    pub(crate) fn new(first: usize, max: usize) -> Self {
        Self { rows: first.min(max), max }
    }

    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Records that a page of `rows` could not be handled: the next has half of them, so that a
    /// page that failed because it was too large succeeds in parts.
    pub(crate) fn failed(&mut self, rows: usize) {
        self.rows = (self.rows.min(rows) / 2).max(1);
    }

    /// Records that a page of `bytes` was handled; it was `full` if there may be more rows.
    pub(crate) fn was_read(&mut self, bytes: usize, full: bool) {
        if bytes > LARGE_PAGE_BYTES {
            self.rows = (self.rows / 2).max(1);
        } else if bytes < SMALL_PAGE_BYTES && full {
            self.rows = (self.rows * 2).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_small_rows_grow_and_those_of_large_ones_shrink() {
        let mut page = PageSize::new(100, 350);
        page.was_read(1_000, false);
        assert_eq!(page.rows(), 100, "there was no more");
        for (bytes, rows) in [
            (SMALL_PAGE_BYTES - 1, 200),
            (0, 350),
            (SMALL_PAGE_BYTES, 350),
            (LARGE_PAGE_BYTES + 1, 175),
        ] {
            page.was_read(bytes, true);
            assert_eq!(page.rows(), rows);
        }
        (0..20).for_each(|_| page.was_read(LARGE_PAGE_BYTES + 1, false));
        assert_eq!(page.rows(), 1);
    }

    #[test]
    fn a_page_that_fails_is_halved() {
        let mut page = PageSize::new(100, 350);
        for (read, rows) in [(100, 50), (40, 20), (20, 10), (3, 1), (1, 1), (0, 1)] {
            page.failed(read);
            assert_eq!(page.rows(), rows);
        }
        page.was_read(0, true);
        assert_eq!(page.rows(), 2);
    }
}
