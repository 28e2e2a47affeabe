package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parseSize reads SIZE: a number with K, M, G or T, powers of 1024.
func parseSize(s string) (int64, error) {
	digits, shift := s, 0
	if s != "" {
		if i := strings.IndexByte("KMGT", s[len(s)-1]&^0x20); i >= 0 {
			digits, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, usagef("%q is no size: want a number with K, M, G or T", s)
	}
	return int64(n) << shift, nil
}

// formatSize writes a number of bytes for people.
func formatSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if f /= 1024; f < 999.95 || unit == "PiB" {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return ""
}

// formatCount writes a number with its thousands apart.
func formatCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatElapsed writes a time span for people: 0.42 s, 12.3 s, 3:07 min, 2:05:09 h.
func formatElapsed(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d:%02d min", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d:%02d:%02d h", int(s)/3600, int(s)/60%60, int(s)%60)
}

// count writes a number with its noun: "1 file", "3 files".
func count(n int64, noun, plural string) string {
	if n == 1 {
		return "1 " + noun
	}
	return formatCount(n) + " " + plural
}
