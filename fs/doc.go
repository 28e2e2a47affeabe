// Package fs answers the kernel's file-system requests out of snapshots.
package fs
