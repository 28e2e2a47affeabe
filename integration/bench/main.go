package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

// settings are the command line's.
type settings struct {
	work  string
	tree  string
	small int
	big   int64
	runs  int
	tools []string
	keep  bool
	aged  int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s settings
	var tools string
	flag.StringVar(&s.work, "work", "", "directory for sources, stores and restores (default: a temporary one); needs four times the size of the data")
	flag.StringVar(&s.tree, "tree", "/usr", "real tree to copy and back up; empty: none")
	flag.IntVar(&s.small, "small", 100_000, "number of small files to make")
	flag.Int64Var(&s.big, "big", 4<<30, "size of the large file to make, bytes")
	flag.IntVar(&s.runs, "runs", 1, "runs of everything; medians are printed")
	flag.StringVar(&tools, "tools", "snapfs,restic,borg,"+copyName, "what to compare; \""+copyName+"\" is no peer but what the file system itself does")
	flag.BoolVar(&s.keep, "keep", false, "leave the work directory")
	flag.IntVar(&s.aged, "aged", 0, "rounds of changes, backups and prunes after which a store is compared with a fresh one; nothing else is done then")
	snapfs := flag.String("snapfs", "bin/snapfs", "the binary to measure")
	flag.Parse()
	s.tools = strings.Split(tools, ",")
	if s.big > 0 && s.big < leastBig {
		return fmt.Errorf("-big %d: at least %d, or 0 for none", s.big, leastBig)
	}
	if s.work == "" {
		dir, err := os.MkdirTemp("", "snapfs-bench-")
		if err != nil {
			return err
		}
		s.work = dir
	}
	if err := os.MkdirAll(s.work, 0o700); err != nil {
		return err
	}
	if !s.keep {
		defer func() {
			if err := os.RemoveAll(s.work); err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
			}
		}()
	}
	bin, err := filepath.Abs(*snapfs)
	if err != nil {
		return err
	}
	if s.aged > 0 {
		return age(ctx, s, bin, s.aged)
	}
	return compare(ctx, s, bin)
}

// compare runs every tool over every corpus.
func compare(ctx context.Context, s settings, bin string) error {
	var tools []tool
	for _, name := range s.tools {
		t, err := newTool(name, bin)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench: left out:", err)
			continue
		}
		tools = append(tools, t)
	}
	if len(tools) == 0 {
		return errors.New("no tool to measure")
	}
	corpora, err := makeCorpora(ctx, s)
	if err != nil {
		return err
	}
	for _, c := range corpora {
		res := newResults(c, tools)
		for range s.runs {
			for _, t := range tools {
				if err := measure(ctx, s, c, t, res); err != nil {
					return fmt.Errorf("%s on %s: %w", t.name(), c.name, err)
				}
			}
			if err := c.restore(ctx); err != nil {
				return err
			}
		}
		res.print(os.Stdout)
	}
	return nil
}
