// Package wire carries the store's interface over a byte stream: messages, calls and flow control.
package wire
