package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// askPassword asks on the controlling terminal, wherever the standard streams lead.
func (p *program) askPassword(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: none was given and there is no terminal to ask on", errNoSecret)
	}
	defer tty.Close()
	line, err := readHidden(ctx, tty, prompt)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: none was typed", errNoSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the password: %w", err)
	}
	return password(line, "terminal")
}

// readHidden reads a line without echo. The terminal is as before when it returns, interrupted or not.
func readHidden(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	restore, err := silence(tty)
	if err != nil {
		return nil, err
	}
	defer restore()
	if _, err := tty.WriteString(prompt); err != nil {
		return nil, err
	}
	defer tty.WriteString("\n")
	// A read of a terminal has no other end than input or a deadline.
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Now()) })
	defer stop()
	var line []byte
	for buf := make([]byte, 256); bytes.IndexByte(line, '\n') < 0; {
		n, err := tty.Read(buf)
		line = append(line, buf[:n]...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	return append(line, '\n'), nil
}

// silence switches the echo off; restore puts the terminal back.
func silence(tty *os.File) (restore func(), err error) {
	conn, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var before *unix.Termios
	set := func(t *unix.Termios) (err error) {
		if e := conn.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETSF, t) }); e != nil {
			return e
		}
		return err
	}
	if e := conn.Control(func(fd uintptr) { before, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	return func() { set(before) }, set(&silent)
}

// askEnter waits on the terminal until somebody presses Enter.
func askEnter(ctx context.Context, prompt string) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	if _, err := tty.WriteString(prompt); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { tty.SetReadDeadline(time.Now()) })
	defer stop()
	for buf := make([]byte, 256); ; {
		n, err := tty.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case bytes.IndexByte(buf[:n], '\n') >= 0:
			return nil
		}
	}
}
