//! Tables that fit a width.

use console::{measure_text_width, pad_str, truncate_str};

use crate::printable;

/// The width below which a column is not cut.
const MIN_WIDTH: usize = 8;
const GAP: &str = "  ";

/// A table with a header.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table. A column whose header begins with `#` is aligned to the right, and one
    /// whose header begins with `!` is never cut: its cells are arguments of commands.
    pub(crate) fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len(), "every row has all columns");
        let one_line = |cell: String| printable::line(&cell).into_owned();
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the lines, in which the widest columns are cut until they fit `width`.
    pub(crate) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let titles: Vec<_> =
            self.header.iter().map(|of| of.trim_start_matches(['#', '!'])).collect();
        let mut widths: Vec<usize> = titles.iter().map(|title| title.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = measure_text_width(cell).max(*width);
            }
        }
        if let Some(width) = width {
            let whole: Vec<_> = self.header.iter().map(|of| of.starts_with('!')).collect();
            fit(&mut widths, &whole, width.saturating_sub(GAP.len() * (titles.len() - 1)));
        }
        let header = titles.iter().map(|title| title.to_uppercase()).collect();
        let rows = std::iter::once(&header).chain(&self.rows);
        rows.map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = cells.iter().zip(widths).zip(&self.header).map(|((cell, width), header)| {
            let is_number = header.starts_with('#');
            let side = if is_number { console::Alignment::Right } else { console::Alignment::Left };
            pad_str(&truncate_str(cell, *width, "…"), *width, side, None).into_owned()
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    }
}

/// Shortens the widest columns, the last of equals first, until they fit or are all short.
fn fit(widths: &mut [usize], whole: &[bool], available: usize) {
    while widths.iter().sum::<usize>() > available {
        let cut = widths.iter_mut().zip(whole).filter(|(_, whole)| !**whole);
        match cut.map(|(width, _)| width).max_by_key(|width| **width) {
            Some(widest) if *widest > MIN_WIDTH => *widest -= 1,
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["name", "#count", "error"]);
        table.row(["a".into(), "10".into(), "the card was declined\nby the bank".into()]);
        table.row(["a name".into(), "7".into(), String::new()]);
        table
    }

    #[test]
    fn without_a_width_nothing_is_cut() {
        let lines = [
            "NAME    COUNT  ERROR",
            "a          10  the card was declined by the bank",
            "a name      7",
        ];
        assert_eq!(table().lines(None), lines);
        assert_eq!(table().lines(Some(100)), lines);
    }

    #[test]
    fn the_widest_column_is_cut_first() {
        let lines = table().lines(Some(30));
        assert_eq!(lines[1], "a          10  the card was d…");
        assert_eq!(table().lines(Some(1))[1], "a          10  the car…");
    }

    #[test]
    fn arguments_of_commands_are_not_cut() {
        let mut table = Table::new(["!id", "text"]);
        table.row(["01234567890123456789".into(), "a text of some length".into()]);
        assert_eq!(table.lines(Some(32))[1], "01234567890123456789  a text of…");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(["name"]);
        table.row(["\x1b[31mred\x1b[0m".into()]);
        assert!(!table.lines(None).concat().contains('\x1b'));
    }
}
