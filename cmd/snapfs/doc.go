// Command snapfs takes snapshots of directories and streams, shows all of them as one read-only file system, and
// copies them back.
//
// A command is a constructor, an options struct and a method of program that does the work; each has a file of its
// own. What they share: args.go puts the command line in order before urfave/cli sees it, unlock.go finds passwords
// and keys, output.go writes for people and for programs, exit.go maps errors to exit codes, hints.go says what to do
// about them.
package main
