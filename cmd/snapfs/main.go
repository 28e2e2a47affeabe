package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Writes to a closed pipe shall fail instead of killing a process that may be serving the store to others.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// After the first signal a second one has its default effect: it ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}
