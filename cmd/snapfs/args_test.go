package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrange(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	for _, test := range []struct {
		in, want string // words; the program's name is left out
		args     int
	}{
		{"version", "version", 0},
		{"ls latest", "ls -- latest", 1},
		{"ls latest -l", "ls -l -- latest", 1},
		{"ls latest -lR", "ls -l -R -- latest", 1},
		{"ls -lR0 latest", "ls -l -R -0 -- latest", 1},
		{"--json ls latest", "--json ls -- latest", 1},
		{"-l ls latest", "ls -l -- latest", 1},
		{"-lR0 ls latest", "ls -l -R -0 -- latest", 1},
		{"--exclude a --json backup /x --exclude b", "--json backup --exclude=a --exclude=b -- /x", 1},
		{"--dataset=find backup /x", "backup --dataset=find -- /x", 1},
		{"--dataset find backup /x", "backup --dataset=find -- /x", 1},
		{"--tag -- backup /x", "backup --tag=-- -- /x", 1},
		{"--exclude= backup /x", "backup --exclude= -- /x", 1},
		{"--verify restore --to d s", "restore --verify --to=d -- s", 1},
		{"--data verify --repair", "verify --data=100% --repair", 0},
		{"--dry-run -- backup /x", "backup --dry-run -- /x", 0},
		{"--label x key add --quiet", "--quiet key add --label=x", 0},
		{"key --label x add", "key add --label=x", 0},
		{"-l --help ls", "help -- ls", 1},
		{"ls --json latest --store=/s", "--json --store=/s ls -- latest", 1},
		{"ls latest --store /s", "--store=/s ls -- latest", 1},
		{"--store /s -- ls latest", "--store=/s ls -- latest", 0},
		{"ls -- -l", "ls -- -l", 0},
		{"cat -- --json", "cat -- --json", 0},
		{"backup /a --exclude -x /b --tag=t --tag u", "backup --exclude=-x --tag=t --tag=u -- /a /b", 2},
		{"backup --as n -- tar -c --json .", "backup --as=n -- tar -c --json .", 0},
		{"backup /a --as n -- tar", "backup --as=n -- /a tar", 1},
		{"backup --exclude=a,b=c /x", "backup --exclude=a,b=c -- /x", 1},
		{"backup --exclude= /x", "backup --exclude= -- /x", 1},
		{"key add --label x --quiet", "--quiet key add --label=x", 0},
		{"key --json list", "--json key list", 0},
		{"dataset rename a b", "dataset rename -- a b", 2},
		{"mount -d /m --dataset d", "mount -d --dataset=d -- /m", 1},
		{"cat -", "cat -- -", 1},
		{"--help", "help", 0},
		{"-h", "help", 0},
		{"ls -h", "help -- ls", 1},
		{"key add --help --label x", "help -- key add", 2},
		{"key add --label x", "key add --label=x", 0},
		{"help key add", "help -- key add", 2},
		{"backup --json --help -- x", "--json help -- backup", 0},
	} {
		line, err := arrange(app, strings.Fields("snapfs "+test.in))
		if err != nil {
			t.Errorf("%q: %v", test.in, err)
			continue
		}
		if got := strings.Join(line.argv[1:], " "); got != test.want || line.args != test.args {
			t.Errorf("%q: %q with %d plain arguments, want %q with %d", test.in, got, line.args, test.want, test.args)
		}
	}
}

func TestArrangeRefuses(t *testing.T) {
	app := newApp(nil, io.Discard, io.Discard)
	for _, test := range []struct{ in, msg, hint string }{
		{"", "no command given", "snapfs help"},
		{"--json", "no command given", "snapfs help"},
		{"snapshot", `unknown command "snapshot"`, "snapfs snapshots"},
		{"bakcup /x", `unknown command "bakcup"`, "snapfs backup"},
		{"key ad", `unknown command "key ad"`, "snapfs key add"},
		{"xyzzy", `unknown command "xyzzy"`, "snapfs help"},
		{"list", `unknown command "list"`, "'snapfs snapshots' or 'snapfs ls'"},
		{"create", `unknown command "create"`, "snapfs backup"},
		{"extract", `unknown command "extract"`, "snapfs restore"},
		{"check", `unknown command "check"`, "verify"},
		{"delete", `unknown command "delete"`, "forget"},
		{"compact", `unknown command "compact"`, "prune"},
		{"gc", `unknown command "gc"`, "prune"},
		{"unlock", `unknown command "unlock"`, "nothing needs unlocking"},
		{"ls --jsno", "unknown option --jsno", "--json"},
		{"ls -x", "unknown option -x", "snapfs ls --help"},
		{"ls --l x", "unknown option --l", "snapfs ls --help"},
		{"ls -lx", "unknown option -x", ""},
		{"--exclude a ls x", "unknown option --exclude", "snapfs ls --help"},
		{"--exclude a", "unknown option --exclude", ""},
		{"-l", "unknown option -l", ""},
		{"-xl ls", "unknown option -x", ""},
		{"--l ls x", "unknown option --l", ""},
		{"--overwrite never restore x", "unknown option --overwrite", ""}, // takes no value in archive create
		{"--exclude a backpu /x", `unknown command "backpu"`, "backup"},
		{"--dataset= backup /x", "option --dataset needs a value", ""},
		{"backup --label", "unknown option --label", ""},
		{"backup /x --exclude", "option --exclude needs a value", ""},
		{"backup /x --dataset=", "option --dataset needs a value", ""},
		{"snapshots --store=", "option --store needs a value", ""},
		{"ls --json=yes x", "option --json takes no value", ""},
	} {
		_, err := arrange(app, strings.Fields("snapfs "+test.in))
		if exitCode(err) != exitUsage {
			t.Errorf("%q: error %v, exit code %d", test.in, err, exitCode(err))
			continue
		}
		if err.Error() != test.msg || !strings.Contains(strings.Join(hints(err), "\n"), test.hint) {
			t.Errorf("%q: %q with hints %q, want %q with %q", test.in, err, hints(err), test.msg, test.hint)
		}
	}
}

func TestArrangeOptionalValue(t *testing.T) {
	app := &cli.App{Commands: []*cli.Command{{Name: "verify", Flags: []cli.Flag{
		&optionalFlag{&cli.StringFlag{Name: "data"}, "100"},
		&cli.BoolFlag{Name: "repair"},
	}}}}
	for in, want := range map[string]string{
		"verify --data":          "verify --data=100",
		"verify --data=5":        "verify --data=5",
		"verify --data 5":        "verify --data=100 -- 5",
		"verify --data --repair": "verify --data=100 --repair",
	} {
		line, err := arrange(app, strings.Fields("snapfs "+in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := strings.Join(line.argv[1:], " "); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What arrange makes must mean the same to urfave/cli, whatever it is made of.
func FuzzArrange(f *testing.F) {
	for _, s := range []string{"ls -l x", "backup --as n -- a -b", "key add --label=", "--json ls -- --", "-", "ls --=x", "ls -=", "\xff -\xff"} {
		f.Add(s)
	}
	app := newApp(nil, io.Discard, io.Discard)
	f.Fuzz(func(t *testing.T, in string) {
		words := strings.Split(in, " ")
		line, err := arrange(app, append([]string{"snapfs"}, words...))
		if err != nil {
			if exitCode(err) != exitUsage {
				t.Fatalf("%q: exit code %d for %v", words, exitCode(err), err)
			}
			return
		}
		again, err := arrange(app, line.argv)
		if err != nil || !slices.Equal(again.argv, line.argv) {
			t.Fatalf("%q became %q, and that %v, %v", words, line.argv, again, err)
		}
	})
}

func TestNearest(t *testing.T) {
	words := []string{"restore", "rebuild", "snapshots", "stats"}
	for in, want := range map[string]string{
		"resotre": "restore", "rebuidl": "rebuild", "snap": "snapshots", "stat": "stats", "re": "", "zzz": "", "": "",
	} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestBadValues: an option that cannot have its value is named as it was typed.
func TestBadValues(t *testing.T) {
	clearStore(t)
	for _, test := range []struct {
		want string
		args []string
	}{
		{"--last x: not a whole number", []string{"snapshots", "--last", "x"}},
		{`--last a"b\c: not a whole number`, []string{"snapshots", `--last=a"b\c`}},
		{"--keep-daily 1.5: not a whole number", []string{"forget", "--keep-daily", "1.5"}},
		{"--keep-last 99999999999999999999: value out of range", []string{"forget", "--keep-last=99999999999999999999"}},
		{"--parity-volumes -: not a whole number", []string{"archive", "create", "--to", "x", "--parity-volumes", "-"}},
	} {
		r := runLine(t, "", test.args...)
		if r.code != exitUsage || r.stderr != "snapfs: "+test.want+"\n" {
			t.Errorf("snapfs %q: exit code %d, %q, want %q", test.args, r.code, r.stderr, test.want)
		}
	}
	// Every type of option there is, as the flag package complains of it.
	for _, f := range []cli.Flag{
		&cli.IntFlag{Name: "some"}, &cli.UintFlag{Name: "some"}, &cli.Int64Flag{Name: "some"}, &cli.Float64Flag{Name: "some"}, &cli.DurationFlag{Name: "some"},
		&cli.BoolFlag{Name: "some"}, &cli.IntSliceFlag{Name: "some"}, &cli.IntFlag{Name: "s"},
	} {
		name := f.Names()[0]
		app := &cli.App{Flags: []cli.Flag{f}, OnUsageError: usageFailed, ExitErrHandler: func(*cli.Context, error) {}}
		err := app.Run([]string{"snapfs", "-" + name + "=x y"})
		want := "--some x y: "
		if name == "s" {
			want = "-s x y: "
		}
		if !as[*usageError](err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%T: %v, want %q", f, err, want)
		}
	}
}
