//! Aligned columns.
//!
//! Widths are measured before colours are put on. The last cell of a row is never padded and never
//! widens its column, so a row that ends early may run on below the columns of the others.

use super::text::{Look, Paint, columns_of};

const GAP: usize = 2;

/// No title gets narrower than this, however narrow the terminal is.
const NARROWEST: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub(super) fn painted(paint: Paint, text: impl Into<String>) -> Self {
        Self { text: text.into(), paint }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::painted(Paint::Plain, text)
    }
}

/// Rows of cells, of which the column `shrinks` gives way on a narrow terminal.
pub(super) struct Table<'a> {
    columns: &'a [Align],
    shrinks: Option<usize>,
    rows: Vec<Vec<Cell>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(columns: &'a [Align], shrinks: Option<usize>) -> Self {
        Self { columns, shrinks, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        while cells.pop_if(|last| last.text.is_empty()).is_some() {}
        self.rows.push(cells);
    }

    /// The lines of the table, `indent` columns in.
    pub(super) fn render(mut self, look: &Look, indent: usize) -> String {
        self.shrink(look, indent);
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&" ".repeat(indent));
            for (i, cell) in row.iter().enumerate() {
                let is_last = i + 1 == row.len();
                let padding = " ".repeat(widths[i].saturating_sub(columns_of(&cell.text)));
                let painted = look.paint(cell.paint, &cell.text);
                match self.columns[i] {
                    Align::Left if is_last => text.push_str(&painted),
                    Align::Left => text.extend([painted, padding]),
                    Align::Right => text.extend([padding, painted]),
                }
                if !is_last {
                    text.push_str(&" ".repeat(GAP));
                }
            }
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for row in &self.rows {
            for (i, cell) in row.iter().enumerate() {
                if i + 1 < row.len() || self.columns[i] == Align::Right {
                    widths[i] = widths[i].max(columns_of(&cell.text));
                }
            }
        }
        widths
    }

    fn shrink(&mut self, look: &Look, indent: usize) {
        let (Some(width), Some(shrinks)) = (look.width, self.shrinks) else { return };
        let widths = self.widths();
        let line = |row: &Vec<Cell>| {
            let last = row.len().saturating_sub(1);
            let before: usize = widths[..last].iter().map(|width| width + GAP).sum();
            indent + before + row.last().map_or(0, |cell| columns_of(&cell.text))
        };
        let over = self.rows.iter().map(line).max().unwrap_or(0).saturating_sub(width);
        let room = widths[shrinks].saturating_sub(over).max(NARROWEST);
        for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(shrinks)) {
            cell.text = look.fit(&cell.text, room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::look;
    use super::*;

    fn table() -> Table<'static> {
        let mut table = Table::new(&[Align::Left, Align::Left, Align::Right, Align::Left], Some(1));
        table.row(["+", "A title of twenty-two.", "9 B", "disk1"].map(Cell::from));
        table.row(["-", "Short", "1023 B", ""].map(Cell::from));
        table.row(["!", "This one says much and ends here, beyond all columns"].map(Cell::from));
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_cells_and_the_last_cell_of_a_row_is_free() {
        let expected = "
  +  A title of twenty-two.     9 B  disk1
  -  Short                   1023 B
  !  This one says much and ends here, beyond all columns
";
        assert_eq!(table().render(&look(), 2), &expected[1..]);
    }

    #[test]
    fn on_a_narrow_terminal_the_titles_give_way() {
        let expected = "\
+  A title …ty-two.     9 B  disk1
-  Short             1023 B
!  This one…columns
";
        assert_eq!(table().render(&Look { width: Some(34), ..look() }, 0), expected);
    }

    #[test]
    fn colours_do_not_count_as_columns() {
        let mut table = Table::new(&[Align::Left, Align::Left], None);
        table.row([Cell::painted(Paint::Good, "+"), "x".into()]);
        table.row(["ab", "y"].map(Cell::from));
        let text = table.render(&Look { color: true, ..look() }, 0);
        assert_eq!(text, "\u{1b}[32m+\u{1b}[0m   x\nab  y\n");
    }
}
