//! `Columns`: lines of text whose cells stand under each other.

use crate::out::clean;

/// The space between two columns.
const GAP: usize = 3;

/// Widths that grow with what is put in.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Lays out whole tables: the header in capitals, then the rows.
    pub fn layout(header: &[&str], rows: &[Vec<String>]) -> String {
        let mut columns = Self::default();
        let header: Vec<_> = header.iter().map(|name| name.to_uppercase()).collect();
        columns.fit(&header);
        rows.iter().for_each(|row| columns.fit(row));
        std::iter::once(&header).chain(rows).map(|row| columns.line(row)).collect()
    }

    /// Makes the columns wide enough for a row.
    pub fn fit(&mut self, row: &[String]) {
        self.widths.resize(self.widths.len().max(row.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(clean(cell).chars().count());
        }
    }

    /// Lays out one row, with the line's end.
    pub fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        let mut edge = 0;
        let mut used = 0;
        for (index, cell) in row.iter().enumerate() {
            line.extend(std::iter::repeat_n(' ', usize::saturating_sub(edge, used)));
            used = used.max(edge);
            let cell = clean(cell);
            used += cell.chars().count();
            line.push_str(&cell);
            edge += self.widths.get(index).copied().unwrap_or_default() + GAP;
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_under_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "", "x y"]), row(["lönger", "2", ""])];
        let text = Columns::layout(&["Name", "No", "What"], &rows);
        assert_eq!(text, "NAME     NO   WHAT\na             x y\nlönger   2\n");
    }
}
