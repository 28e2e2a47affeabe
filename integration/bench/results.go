package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// results are the figures of one corpus: lines in the order they came, tools as columns.
type results struct {
	corpus *corpus
	tools  []string
	lines  []string
	values map[string]map[string][]float64
	format map[string]func(float64) string
}

func newResults(c *corpus, tools []tool) *results {
	r := &results{corpus: c, values: map[string]map[string][]float64{}, format: map[string]func(float64) string{}}
	for _, t := range tools {
		r.tools = append(r.tools, t.name())
	}
	return r
}

func (r *results) add(line, tool string, v float64, format func(float64) string) {
	if r.values[line] == nil {
		r.lines = append(r.lines, line)
		r.values[line] = map[string][]float64{}
		r.format[line] = format
	}
	r.values[line][tool] = append(r.values[line][tool], v)
}

func (r *results) seconds(line, tool string, d time.Duration) {
	r.add(line, tool, d.Seconds(), func(v float64) string { return fmt.Sprintf("%.3f s", v) })
}

func (r *results) bytes(line, tool string, n int64) {
	r.add(line, tool, float64(n), func(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) })
}

// print writes the table; the last column says how many times better snapfs is than the best peer.
func (r *results) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %d entries, %.0f MiB\n", r.corpus.name, r.corpus.entries, float64(r.corpus.bytes)/(1<<20))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer tw.Flush()
	fmt.Fprint(tw, "\t")
	for _, t := range r.tools {
		fmt.Fprintf(tw, "%s\t", t)
	}
	fmt.Fprintln(tw, "best peer / snapfs\t")
	for _, line := range r.lines {
		fmt.Fprintf(tw, "%s\t", line)
		best := 0.0
		for _, t := range r.tools {
			v := median(r.values[line][t])
			if len(r.values[line][t]) == 0 {
				fmt.Fprint(tw, "-\t")
				continue
			}
			fmt.Fprintf(tw, "%s\t", r.format[line](v))
			if t != "snapfs" && t != copyName && v > 0 && (best == 0 || v < best) {
				best = v
			}
		}
		if own := median(r.values[line]["snapfs"]); own > 0 && best > 0 {
			fmt.Fprintf(tw, "%.1f x\t", best/own)
		}
		fmt.Fprintln(tw)
	}
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/2]
}
