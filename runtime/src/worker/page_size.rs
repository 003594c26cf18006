//! How much is read at a time.

/// Bytes below which the next page may have twice as many rows, and above which it has half.
const SMALL_PAGE_BYTES: usize = 4 << 20;
const LARGE_PAGE_BYTES: usize = 32 << 20;

/// How many rows are read at a time. Small ones come in large pages, so that what a page costs is
/// shared by many; large ones must not fill the memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize {
    rows: usize,
    most: usize,
}

impl PageSize {
    pub(crate) fn new(first: usize, most: usize) -> Self {
        Self { rows: first.min(most), most }
    }

    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// These rows could not be handled: the next page has half of them, so that what fails because it
    /// is too much at a time goes through.
    pub(crate) fn failed(&mut self, rows: usize) {
        self.rows = (self.rows.min(rows) / 2).max(1);
    }

    /// So much was read and handled; `full` if there may be more.
    pub(crate) fn was_read(&mut self, bytes: usize, full: bool) {
        if bytes > LARGE_PAGE_BYTES {
            self.rows = (self.rows / 2).max(1);
        } else if bytes < SMALL_PAGE_BYTES && full {
            self.rows = (self.rows * 2).min(self.most);
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
    fn what_fails_is_halved() {
        let mut page = PageSize::new(100, 350);
        for (read, rows) in [(100, 50), (40, 20), (20, 10), (3, 1), (1, 1), (0, 1)] {
            page.failed(read);
            assert_eq!(page.rows(), rows);
        }
        page.was_read(0, true);
        assert_eq!(page.rows(), 2);
    }
}
