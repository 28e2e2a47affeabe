package main

import (
	"os"
	"slices"
	"strings"
)

// secretVariables never reach a child process.
var secretVariables = []string{
	"SNAPFS_PASSWORD_FILE", "SNAPFS_PASSWORD_COMMAND", "SNAPFS_KEY_FILE", "SNAPFS_IDENTITY_FILE",
	"SNAPFS_PASSWORD", "SNAPFS_NEW_PASSWORD", adminPasswordVariable,
}

// environment is what the process was started with.
type environment map[string]string

// takeEnvironment reads the environment and removes the secrets from it, so that no child, however it is started,
// inherits them.
func takeEnvironment() environment {
	env := environment{}
	for _, kv := range os.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	for _, name := range secretVariables {
		os.Unsetenv(name)
	}
	return env
}

func (e environment) get(name string) string { return e[name] }

// child is the environment of a child process: without secrets, with the settings ("NAME=value") given.
func (e environment) child(settings ...string) []string {
	return append(e.list(func(name string) bool { return !slices.Contains(secretVariables, name) }), settings...)
}

// whole is the environment as it was, for another process of this program.
func (e environment) whole() []string { return e.list(func(string) bool { return true }) }

func (e environment) list(want func(name string) bool) []string {
	var list []string
	for name, value := range e {
		if want(name) {
			list = append(list, name+"="+value)
		}
	}
	slices.Sort(list)
	return list
}
