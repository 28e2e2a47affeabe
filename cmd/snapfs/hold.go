package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"snapfs/snapshot"
	"snapfs/store"
)

type holdOptions struct {
	snap         string
	until        string
	forever      bool
	release      bool
	confirmClock bool
}

func (p *program) holdCommand() *cli.Command {
	return &cli.Command{
		Name: "hold", ArgsUsage: "SNAP --until T | SNAP --forever | SNAP --release | --confirm-clock",
		Usage: "promise that a snapshot is not removed before a date",
		Description: about(`
A held snapshot cannot be forgotten, by nobody and by no rule. Holds only extend: a date that is earlier than the one
promised is refused. --release ends a hold; in an append-only store that needs an admin, unless the hold has run out.
T is a date (2027-01-31, the end of that day) or counted from now (+30d, +1y6mo).

Holds are measured by a time that never runs back, and that does not follow a clock which jumps by more than a day: so a
clock that was set wrong ends no hold. After such a jump, also after days without any backup, holds end later than they
say, until somebody has looked at the clock and says with --confirm-clock that it is right.`,
			"snapfs hold etc --until +90d", "snapfs hold etc@2026-11-22 --until 2027-12-31", "snapfs hold latest --forever",
			"snapfs hold latest --release", "snapfs hold --confirm-clock"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "until", Usage: "keep the snapshot at least until `T`"},
			&cli.BoolFlag{Name: "forever", Usage: "keep the snapshot until it is released"},
			&cli.BoolFlag{Name: "release", Usage: "end the hold"},
			&cli.BoolFlag{Name: "confirm-clock", Usage: "the clock of this machine is right: measure holds by it"},
		},
		Action: action(0, 1, func(c *cli.Context, args []string) error {
			o := holdOptions{
				until: c.String("until"), forever: c.Bool("forever"), release: c.Bool("release"), confirmClock: c.Bool("confirm-clock"),
			}
			if len(args) > 0 {
				o.snap = args[0]
			}
			if err := o.check(c.IsSet("until")); err != nil {
				return err
			}
			return p.runHold(c.Context, o)
		}),
	}
}

func (o holdOptions) check(until bool) error {
	set := 0
	for _, b := range []bool{until, o.forever, o.release, o.confirmClock} {
		if b {
			set++
		}
	}
	switch {
	case set != 1:
		return usagef("give one of --until, --forever, --release and --confirm-clock")
	case o.confirmClock && o.snap != "":
		return usagef("--confirm-clock is about the store and takes no snapshot")
	case !o.confirmClock && o.snap == "":
		return usagef("which snapshot? 'snapfs hold SNAP'")
	}
	return nil
}

func (p *program) runHold(ctx context.Context, o holdOptions) error {
	if o.confirmClock {
		return p.withStore(ctx, "confirmation of the clock", func(st *store.Store) error { return p.confirmClock(ctx, st) })
	}
	if o.until != "" { // so that what is no time is found before a password is asked for
		if _, err := snapshot.ParseFuture(o.until, p.now(), p.zone); err != nil {
			return err
		}
	}
	if err := wholeSnapshot(o.snap); err != nil {
		return err
	}
	return p.withStore(ctx, "hold of "+o.snap, func(st *store.Store) error {
		t, err := snapshot.Resolve(ctx, st, o.snap, p.now(), p.zone)
		if err != nil {
			return err
		}
		if err := p.changeHold(ctx, st, t.ID, o); err != nil {
			return err
		}
		return p.printHold(ctx, st, t.ID)
	})
}

func (p *program) changeHold(ctx context.Context, st *store.Store, id store.ID, o holdOptions) error {
	switch {
	case o.release:
		return p.release(ctx, st, id)
	case o.forever:
		return st.Hold(ctx, id, time.Time{})
	}
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	from := p.now()
	if at := state.HoldClock(from); at.After(from) {
		from = at // a clock that is behind shall not make the hold short
	}
	until, err := snapshot.ParseFuture(o.until, from, p.zone)
	if err != nil { // a date that was not over for the clock alone
		if until, err = snapshot.ParseFuture(o.until, p.now(), p.zone); err != nil {
			return err
		}
	}
	return st.Hold(ctx, id, until)
}

// release asks for admin rights only where they are needed: a hold that has run out is lifted by anybody.
func (p *program) release(ctx context.Context, st *store.Store, id store.ID) error {
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	for _, s := range state.Snapshots {
		if s.ID == id && state.Held(s, p.now()) {
			if err := p.adminRights(ctx, st); err != nil {
				return err
			}
		}
	}
	return st.Release(ctx, id)
}

// holdObject is what hold prints in JSON.
type holdObject struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Dataset     string  `json:"dataset"`
	HeldUntil   *string `json:"held_until"`
	HeldForever bool    `json:"held_forever"`
}

func (p *program) printHold(ctx context.Context, st *store.Store, id store.ID) error {
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	for _, s := range state.Snapshots {
		if s.ID != id {
			continue
		}
		if p.global.json {
			return p.out.object(holdObject{s.ID.String(), s.Name, s.Dataset, heldUntil(s), s.HeldForever})
		}
		if p.global.quiet {
			return nil
		}
		if at := state.HoldClock(p.now()); p.now().Sub(at) > clockLag {
			p.sayClockLag(at)
		}
		text := p.heldText(state, s)
		if text == "" {
			text = "not held"
		}
		return p.out.printf("%s is %s\n", s.Dataset+"@"+s.Name, text)
	}
	return nil
}

// foreverText is what JSON says of a hold without an end: a time that is later than all others.
const foreverText = "9999-12-31T23:59:59Z"

// heldUntil is JSON's null for a snapshot that nobody held.
func heldUntil(s store.Snapshot) *string {
	text := foreverText
	switch {
	case s.HeldForever:
	case s.HeldUntil.IsZero():
		return nil
	default:
		text = jsonTime(s.HeldUntil)
	}
	return &text
}

// heldText says for people how long a snapshot is held, "" if it is not, or not any more.
func (p *program) heldText(state *store.State, s store.Snapshot) string {
	if s.HeldForever || state.Held(s, p.now()) {
		return p.holdText(s)
	}
	return ""
}

// holdText is heldText of a hold whether it has run out or not.
func (p *program) holdText(s store.Snapshot) string {
	switch {
	case s.HeldForever:
		return "held for ever"
	case s.HeldUntil.IsZero():
		return ""
	}
	return "held until " + p.localTime(s.HeldUntil)
}

// clockObject is what hold --confirm-clock prints in JSON.
type clockObject struct {
	Clock    string `json:"clock"`
	HoldTime string `json:"hold_time"`
}

func (p *program) confirmClock(ctx context.Context, st *store.Store) error {
	if err := p.adminRights(ctx, st); err != nil {
		return err
	}
	if err := st.ConfirmClock(ctx); err != nil {
		return err
	}
	state, err := st.State(ctx)
	if err != nil {
		return err
	}
	now := p.now()
	at := state.HoldClock(now)
	switch {
	case p.global.json:
		return p.out.object(clockObject{jsonTime(now), jsonTime(at)})
	case p.global.quiet:
		return nil
	case at.After(now):
		return p.out.printf("the clock is behind the time that holds are measured by, which stays at %s\n", p.localTime(at))
	}
	return p.out.printf("holds are measured by the clock: %s\n", p.localTime(at))
}

// sayHoldClock tells of holds that would be over by the clock and are not.
func (p *program) sayHoldClock(state *store.State, list []snapshot.Listed) {
	now := p.now()
	for _, l := range list {
		if !l.HeldForever && !l.HeldUntil.After(now) && state.Held(l.Snapshot, now) {
			p.sayClockLag(state.HoldClock(now))
			return
		}
	}
}

// clockLag is how far the time that holds are measured by may be behind the clock before who makes a hold is told.
const clockLag = 24 * time.Hour

func (p *program) sayClockLag(at time.Time) {
	p.say("holds are measured by %s: the clock jumped, or the store was not used for days", p.localTime(at))
	p.say("hint: if the clock is right, say so with 'snapfs hold --confirm-clock'")
}

// refusalsShown is for how long a refused attempt is told of.
const refusalsShown = 7 * 24 * time.Hour

// sayRefused tells of attempts to take something away from an append-only store.
func (p *program) sayRefused(state *store.State) {
	if len(state.Refused) == 0 || p.global.quiet {
		return
	}
	last := state.Refused[len(state.Refused)-1]
	if p.now().Sub(last.Time) < refusalsShown {
		p.say("attempts without admin rights were refused, the last on %s: %s", p.localTime(last.Time), refusedText(last))
	}
}

// refusedText says what was tried, and by which job unless that is the same.
func refusedText(r store.Refusal) string {
	if r.Job == "" || r.Job == r.What {
		return r.What
	}
	return fmt.Sprintf("%s (%s)", r.What, r.Job)
}
