package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// logHandler writes log records as plain messages: "text (key value, key value): error".
type logHandler struct {
	level slog.Level
	write func(line string)
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	var parts []string
	cause := ""
	for _, a := range attrs {
		if a.Key == "err" {
			cause = fmt.Sprintf(": %v", a.Value)
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %v", a.Key, a.Value))
	}
	line := r.Message
	if len(parts) > 0 {
		line += " (" + strings.Join(parts, ", ") + ")"
	}
	h.write(line + cause)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return &with
}

// WithGroup implements slog.Handler; groups are not shown.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

// logger writes warnings, and with --verbose everything, to stderr.
func (p *program) logger() *slog.Logger {
	level := slog.LevelWarn
	if p.global.verbose {
		level = slog.LevelDebug
	}
	return slog.New(&logHandler{level: level, write: func(line string) { p.say("%s", line) }})
}
