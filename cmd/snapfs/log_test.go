package main

import (
	"errors"
	"log/slog"
	"testing"
)

// TestLogLines: records read as sentences.
func TestLogLines(t *testing.T) {
	var line string
	log := slog.New(&logHandler{level: slog.LevelWarn, write: func(l string) { line = l }})
	full := errors.New("no space left for the store")
	for _, test := range []struct {
		want string
		args []any
	}{
		{"sealed volumes not noted", nil},
		{"sealed volumes not noted: no space left for the store", []any{"err", full}},
		{"sealed volumes not noted (volume 17, offset 4096): no space left for the store", []any{"volume", 17, "err", full, "offset", 4096}},
		{"sealed volumes not noted (volume 17, offset 4096)", []any{"volume", 17, "offset", 4096}},
	} {
		log.Warn("sealed volumes not noted", test.args...)
		if line != test.want {
			t.Errorf("%q, want %q", line, test.want)
		}
		line = ""
		log.Info("quiet", test.args...)
		if line != "" {
			t.Error(line)
		}
	}
	log.With("volume", 3).Warn("not sealed", "err", full)
	if want := "not sealed (volume 3): no space left for the store"; line != want {
		t.Errorf("%q, want %q", line, want)
	}
}
