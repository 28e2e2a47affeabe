package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain/näme 日本":     "plain/näme 日本",
		"new\nline":         `new\nline`,
		"tab\t":             `tab\t`,
		"\x1b[31mred":       `\x1b[31mred`,
		"bad\xffbyte":       `bad\xffbyte`,
		"c1\u009b":          `c1\u009b`,
		"rtl\u202etxt":      `rtl\u202etxt`,
		"sep\u2028":         `sep\u2028`,
		"back\\slash":       `back\slash`,
		"replacement\ufffd": "replacement\ufffd",
		"":                  "",
	} {
		if got := escape(in); got != want {
			t.Errorf("escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNamesAreRawOffTerminals(t *testing.T) {
	o := newOutput(&bytes.Buffer{})
	if got := o.name("a\n\xff"); got != "a\n\xff" {
		t.Errorf("name = %q", got)
	}
	o.terminal = true
	if got := o.name("a\n\xff"); got != `a\n\xff` {
		t.Errorf("name on a terminal = %q", got)
	}
}

func TestJSONPath(t *testing.T) {
	for _, path := range []string{"/ordinary <&>", "/bad\xff\xfe"} {
		var buf bytes.Buffer
		o := newOutput(&buf)
		o.object(errorEvent{"error", newJSONPath(path), "x"})
		o.flush()
		var got struct {
			Path       string  `json:"path"`
			PathBase64 *string `json:"path_base64"`
		}
		if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		valid := !strings.Contains(path, "\xff")
		switch {
		case valid && (got.Path != path || got.PathBase64 != nil || !strings.Contains(buf.String(), "<&>")):
			t.Errorf("%q: %s", path, buf.Bytes())
		case !valid:
			if got.PathBase64 == nil {
				t.Fatalf("%q without path_base64: %s", path, buf.Bytes())
			}
			if raw, _ := base64.StdEncoding.DecodeString(*got.PathBase64); string(raw) != path {
				t.Errorf("path_base64 is %q", raw)
			}
		}
	}
}

func TestJSONTime(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	for want, in := range map[string]time.Time{
		"2026-11-22T02:15:07Z":           time.Date(2026, 11, 22, 3, 15, 7, 0, berlin),
		"1969-12-31T23:59:59.000000001Z": goTime(snapshot.Time{Sec: -1, Nsec: 1}),
		"":                               {},
	} {
		if got := jsonTime(in); got != want {
			t.Errorf("jsonTime(%v) = %q, want %q", in, got, want)
		}
	}
	if got := jsonTime(goTime(snapshot.Time{Sec: 1 << 40})); !strings.HasPrefix(got, "36812-") {
		t.Errorf("a year of five digits: %q", got)
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "512": 512, "1K": 1024, "3k": 3072, "2M": 2 << 20, "5G": 5 << 30, "1T": 1 << 40, "8388607T": 8388607 << 40,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "K", "-1", "+1", "1.5G", "1P", "1KB", "1 K", "8388608T", "99999999999999999999", "0x10"} {
		if got, err := parseSize(in); exitCode(err) != exitUsage {
			t.Errorf("parseSize(%q) = %d, %v", in, got, err)
		}
	}
}

func TestFormat(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 5 << 30: "5.0 GiB", 1 << 60: "1024.0 PiB",
	} {
		if got := formatSize(in); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := formatCount(in); got != want {
			t.Errorf("formatCount(%d) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{
		420 * time.Millisecond: "0.42 s", 12300 * time.Millisecond: "12.3 s", 187 * time.Second: "3:07 min", 7509 * time.Second: "2:05:09 h",
	} {
		if got := formatElapsed(in); got != want {
			t.Errorf("formatElapsed(%v) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[uint32]string{
		0o755: "rwxr-xr-x", 0o4755: "rwsr-xr-x", 0o4644: "rwSr--r--", 0o2755: "rwxr-sr-x", 0o1777: "rwxrwxrwt", 0o1000: "--------T", 0: "---------",
	} {
		if got := modeString(in); got != want {
			t.Errorf("modeString(%o) = %q, want %q", in, got, want)
		}
	}
}

func TestFlagNames(t *testing.T) {
	if got := strings.Join(flagNames(0x10|0x40|0x80000000), " "); got != "immutable nodump 0x80000000" {
		t.Errorf("flagNames = %q", got)
	}
}

func TestTable(t *testing.T) {
	var buf bytes.Buffer
	o := newOutput(&buf)
	table := newTable("NAME", ">SIZE", "NOTE")
	table.add("ä", "1", "")
	table.add("bb", "1,000", "x")
	table.write(o)
	o.flush()
	if want := "NAME   SIZE  NOTE\nä         1\nbb    1,000  x\n"; buf.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", buf.String(), want)
	}
}
