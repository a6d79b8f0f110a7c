package chart

import "html/template"

// Table is a picture's numbers, behind a line that opens it, for who wants to read or copy them.
type Table struct {
	ID      string   // of the line, once on a page
	Summary string   // the line
	Head    []string // of the columns; the first column names the rows
	Rows    [][]string
}

// Draw returns the table.
func (t Table) Draw() template.HTML {
	var d drawing
	d.put(`<details class="chart-table"><summary id="%s">%s</summary><div class="table-responsive" tabindex="0"><table class="table table-sm"><thead><tr>`, t.ID, t.Summary)
	for _, text := range t.Head {
		d.put(`<th scope="col">%s</th>`, text)
	}
	d.put(`</tr></thead><tbody>`)
	for _, row := range t.Rows {
		d.put(`<tr>`)
		for i, text := range row {
			if i == 0 {
				d.put(`<th scope="row">%s</th>`, text)
				continue
			}
			d.put(`<td class="number">%s</td>`, text)
		}
		d.put(`</tr>`)
	}
	d.put(`</tbody></table></div></details>`)
	return template.HTML(d.b.String()) //nolint:gosec // put escapes everything that is not of this package
}
