package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapfs/store/seal"
)

// FuzzPages: pages of lists are refused, or encode to the same bytes again.
func FuzzPages(f *testing.F) {
	f.Add(encodeFactPage(1, []ID{{1}, {2}}))
	f.Add(encodeIDPage(0, []byte(strings.Repeat("i", 64))))
	f.Fuzz(func(t *testing.T, data []byte) {
		skips := skipsFields(data, 2)
		if level, ids, err := parseFactPage(data); err == nil && !skips {
			if again := encodeFactPage(level, ids); !bytes.Equal(again, data) {
				t.Errorf("page of facts %x\nre-encodes to\n%x", data, again)
			}
		}
		if level, ids, err := parseIDPage(data); err == nil && !skips {
			if again := encodeIDPage(level, ids); !bytes.Equal(again, data) {
				t.Errorf("page of IDs %x\nre-encodes to\n%x", data, again)
			}
		}
	})
}

// FuzzSession: what a holder before noted of a session.
func FuzzSession(f *testing.F) {
	f.Add((&absentSession{process: processID{pid: 1, started: 2, boot: "b"}, heard: time.Unix(0, 3)}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		var a absentSession
		if a.decode(data) != nil || skipsFields(data, 4) {
			return
		}
		if again := a.encode(); !bytes.Equal(again, data) {
			t.Errorf("%x\nre-encodes to\n%x", data, again)
		}
	})
}

// FuzzConfig: snapfs.json comes from whoever can write to the store; what is accepted can be checked against keys.
func FuzzConfig(f *testing.F) {
	c, err := newConfig(InitOptions{Program: "test"}, time.Unix(1, 0))
	must(f, err)
	dir := f.TempDir()
	bundle, err := seal.Create(filepath.Join(dir, keysName), []seal.NewSlot{{Clear: true}})
	must(f, err)
	data, err := c.encode(bundle)
	must(f, err)
	f.Add(data)
	f.Add([]byte(`{"format":1,"id":"","parity":-1,"chunk_average":0,"features_read":[],"mac":"00"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, configName), data, 0o600))
		c, err := readConfig(dir)
		if err != nil {
			return
		}
		if err := c.verify(bundle); err == nil && c.check() != nil {
			t.Errorf("%s is accepted", data)
		}
		_, _ = c.storeID()
	})
}
