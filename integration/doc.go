// Package integration tests the snapfs command as it is built and used: in processes of its own, on real mounts. It
// holds tests only; scripts of commands with what they must answer stand in testdata/script, one behaviour each.
package integration
