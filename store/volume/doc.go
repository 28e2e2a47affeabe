// Package volume is the container: self-describing append-only files that hold sealed frames.
package volume
