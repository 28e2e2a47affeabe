package main

import (
	"strings"
	"unicode/utf8"
)

// table aligns rows of text. A heading that begins with ">" makes its column align to the right.
type table struct {
	rows [][]string
}

func newTable(headings ...string) *table { return &table{rows: [][]string{headings}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table; names in cells have been made fit for the output before.
func (t *table) write(o *output) error {
	width := make([]int, len(t.rows[0]))
	right := make([]bool, len(t.rows[0]))
	for i, h := range t.rows[0] {
		right[i] = strings.HasPrefix(h, ">")
		t.rows[0][i] = strings.TrimPrefix(h, ">")
	}
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		var b strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if right[i] {
				cell, pad = pad+cell, ""
			}
			b.WriteString(cell + pad + "  ")
		}
		if err := o.print(strings.TrimRight(b.String(), " ") + "\n"); err != nil {
			return err
		}
	}
	return nil
}
