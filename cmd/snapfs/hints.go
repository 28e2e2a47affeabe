package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"snapfs/fs"
	"snapfs/snapshot"
	"snapfs/snapshot/archive"
	"snapfs/snapshot/backup"
	"snapfs/snapshot/restore"
	"snapfs/store"
)

// plainHints are hints that need nothing but the kind of the error.
var plainHints = []struct {
	target error
	hint   string
}{
	{store.ErrNoConfig, "put snapfs.json back from a copy of the store; without one, 'snapfs rebuild' makes it anew, with the default parameters for what comes"},
	{store.ErrNoStore, "'snapfs init' makes a store; is the disk mounted, and --store or $SNAPFS_STORE right?"},
	{store.ErrStoreExists, "use it as it is, or give another directory"},
	{store.ErrNotEmpty, "a store is made in a directory that is missing or empty"},
	{store.ErrNewerFormat, "use the version of snapfs that wrote it, or a newer one"},
	{store.ErrNotOwner, "run snapfs as the owner of the store's directory or as root"},
	{store.ErrHeld, "end the process that holds the store, or run snapfs as the same user"},
	{store.ErrWrongSecret, "'snapfs key list' shows the key slots; each has a secret of its own"},
	{store.ErrNoSlot, "'snapfs key list' shows what kinds of secrets unlock the store"},
	{errNoSecret, "give --password-file, --password-command, --key-file or --identity-file, or set $SNAPFS_PASSWORD"},
	{store.ErrNotFound, "'snapfs dataset list' and 'snapfs snapshots' list what there is"},
	{store.ErrNoKeys, "'snapfs key import' puts back what 'snapfs key export' printed; copies of the store have a directory 'keys' as well"},
	{store.ErrDamagedBundle, "'snapfs key import' puts back what 'snapfs key export' printed; copies of the store have a directory 'keys' as well"},
	{store.ErrDamagedSlot, "another slot may open it ('snapfs key list'); 'snapfs key import' puts back what 'snapfs key export' printed"},
	{store.ErrInside, "choose a place outside of the store: nobody but the store itself writes there"},
	{store.ErrConfig, "put snapfs.json back from a copy of the store, or move it away: 'snapfs rebuild' makes it anew from keys and volumes"},
	{store.ErrSheet, "compare these lines with the sheet; nothing has been changed"},
	{store.ErrLastSlot, "add another slot first: 'snapfs key add'"},
	{store.ErrUnknownSlot, "'snapfs key list' shows the IDs"},
	{store.ErrNotAdmin, "give an admin's password with --admin-password-file; 'snapfs key list' shows the roles"},
	{store.ErrOnHold, "'snapfs snapshots' shows until when; 'snapfs hold SNAP --release' ends a hold"},
	{store.ErrHeldLonger, "holds only extend; 'snapfs hold SNAP --release' ends one"},
	{store.ErrHoldOver, "is the clock right? 'snapfs hold --confirm-clock' tells by what time holds are measured"},
	{store.ErrNoSpace, "free some space on the store's file system; what has been committed is safe"},
	{store.ErrUnreadable, "'snapfs verify --repair' may heal it, the next backup too; without that snapshot ('snapfs forget') the others can be pruned"},
	{backup.ErrNewSource, "give another --dataset, or --new-source if this is the same data in another place"},
	{backup.ErrDatasetNeeded, "give the dataset a name: --dataset NAME"},
	{backup.ErrDatasetName, "give the dataset a name: --dataset NAME"},
	{backup.ErrNothingSaved, "are the paths right, and may you read them?"},
	{backup.ErrEmptyStream, "use --allow-empty if it may be empty"},
	{restore.ErrOtherHost, "use --force if this machine is to get the other one's files, or --to DIR"},
	{restore.ErrNoOrigin, "use --to DIR"},
	{restore.ErrDeleteRoot, "use --force if that is really meant"},
	{restore.ErrDeleteEmpty, "use --force if that is really meant"},
	{restore.ErrDoubt, "name the snapshot by its ID or as DATASET@NAME, or give --scratch DIR with room for all that comes"},
	{restore.ErrDeleteListed, "use --force if that is really meant"},
	{restore.ErrFull, "free some space and run the same command again: it goes on where it ended"},
	{restore.ErrReadOnly, "mount it for writing, or give another DIR with --to"},
	{archive.ErrOrder, "give the set with the snapshot first, then its parents, newest first; or --scratch DIR with room for all of it"},
	{archive.ErrOtherSet, "leave it out, or give the directory it lies in: what is not needed there is passed over"},
	{archive.ErrOtherStore, "give volumes of one store at a time; 'snapfs archive info' shows whose they are"},
	{archive.ErrNoVolume, "'head -c 512 FILE' shows what a volume says of itself"},
	{archive.ErrNoSnapshots, "'snapfs snapshots' lists what there is; 'snapfs backup PATH' takes a snapshot"},
	{archive.ErrNoParent, "make a full set: --level full; 'snapfs archive sets' lists the sets and how they are"},
	{archive.ErrSetExists, "give another name with --set, or go on with an interrupted one: --resume SET"},
	{archive.ErrUnknownSet, "'snapfs archive sets' lists the sets"},
	{archive.ErrFinished, "'snapfs archive create' makes the next one"},
	{archive.ErrVolumeExists, "use another directory or medium; volumes of sets that have expired are overwritten with --overwrite"},
	{archive.ErrNotEmpty, "only media that are blank, or hold volumes of sets that have expired, are written"},
	{archive.ErrMediumFull, "what was completed is good: go on with --resume SET on another medium, or use --next-volume"},
	{archive.ErrVolumeSize, "give a larger --volume-size, or less --parity"},
	{archive.ErrTarget, "give a directory that is there, a file, a FIFO, a device or -"},
	{archive.ErrOtherSource, "'snapfs dataset rename' the one in the store, or give --new-source if this is the same data in another place"},
	{archive.ErrParityDir, "give the --parity-dir that the set was begun with"},
	{archive.ErrParityLost, "give the --parity-dir that the set was begun with, or put its volumes back where they were written"},
	{archive.ErrNotArchived, "'snapfs archive sets' lists the sets and how they are; 'snapfs archive create' makes one"},
	{fs.ErrMissing, "make the directory first"},
	{fs.ErrNotDirectory, "give an empty directory"},
	{fs.ErrNotEmpty, "use an empty directory, or --nonempty to cover what is in it"},
	{fs.ErrMounted, "'snapfs umount' ends a mount"},
	{fs.ErrStale, "'snapfs umount --lazy' takes it away"},
	{fs.ErrNoFUSE, "install the package fuse3 and load the kernel module: modprobe fuse"},
	{fs.ErrDenied, "root can mount, or let others do it: 'chmod 666 /dev/fuse', with a rule of udev to keep it so; a container has to be given the device"},
	{fs.ErrAllowOther, "add a line 'user_allow_other' to /etc/fuse.conf"},
	{fs.ErrInsideStore, "mount somewhere outside of the store"},
	{fs.ErrOverStore, "mount somewhere outside of the store"},
	{fs.ErrAboveStore, "mount somewhere else: the store would be covered by its own mount"},
	{fs.ErrNotMounted, "'findmnt -t fuse.snapfs' lists the mounts"},
	{fs.ErrBusy, "end the programs that use it, or use --lazy"},
}

// hints says what to do about an error.
func hints(err error) []string {
	var usage *usageError
	if errors.As(err, &usage) && usage.hint != "" {
		return []string{usage.hint}
	}
	var secret *secretError
	if errors.As(err, &secret) {
		return []string{secret.hint}
	}
	if list := candidateHints(err); list != nil {
		return list
	}
	var mount *fs.MountError
	if errors.As(err, &mount) && mount.Op == "umount" && errors.Is(err, fs.ErrMissing) {
		err = fs.ErrNotMounted // nobody wants a directory made to unmount it
	}
	var locked *archive.LockedError
	if errors.As(err, &locked) {
		return []string{"'snapfs archive info VOLUME' shows what opens its set"}
	}
	for _, h := range plainHints {
		if errors.Is(err, h.target) {
			return []string{h.hint}
		}
	}
	return typedHints(err)
}

// candidateHints tell what a reference could have meant.
func candidateHints(err error) []string {
	var unknown *snapshot.UnknownError
	if errors.As(err, &unknown) {
		if len(unknown.Candidates) == 0 {
			return []string{"'snapfs snapshots' lists what there is"}
		}
		return []string{"did you mean " + strings.Join(unknown.Candidates, ", ") + "?"}
	}
	var forgotten *snapshot.ForgottenError
	if errors.As(err, &forgotten) {
		return []string{"'snapfs unforget " + forgotten.Ref + "' brings it back"}
	}
	if as[*snapshot.InexactError](err) {
		return []string{"'snapfs snapshots' and 'snapfs snapshots --forgotten' show both"}
	}
	var ambiguous *snapshot.AmbiguousError
	if errors.As(err, &ambiguous) {
		var list []string
		for _, c := range ambiguous.Candidates {
			list = append(list, fmt.Sprintf("%s is %s", c.ID, c.Ref()))
		}
		return list
	}
	return nil
}

// typedHints need what the error carries.
func typedHints(err error) []string {
	if as[*newKeyFileError](err) {
		return []string{"give the name of a key file of 32 bytes, or one that is not there: then a key is made"}
	}
	if as[*store.UnaskedError](err) {
		return []string{"nothing was signed; run the command while no other process uses the store, and look at who runs the one that does"}
	}
	var locked *store.LockedError
	if errors.As(err, &locked) {
		return []string{"try again later, or use --wait"}
	}
	var path *snapshot.PathError
	if errors.As(err, &path) && errors.Is(err, os.ErrNotExist) && !as[syscall.Errno](err) { // in a snapshot, not in a directory
		return []string{"'snapfs find NAME' and 'snapfs versions DATASET:PATH' tell which snapshots have it"}
	}
	if hint := errnoHint(err); hint != "" {
		return []string{hint}
	}
	var incomplete *incompleteError
	if errors.As(err, &incomplete) && os.Geteuid() != 0 {
		return []string{"only root may read and write everything"}
	}
	var remains *remainsError
	if errors.As(err, &remains) {
		return remains.hints()
	}
	var newer *archive.NewerError
	if errors.As(err, &newer) && newer.Newer == "" {
		return []string{"name the snapshot by its ID if that is the right one; 'snapfs archive verify' tells more of the damage"}
	}
	if newer != nil {
		return []string{"what was written is of the older snapshot, and stays; run it again with the newest set first, or with --scratch DIR that has room for all of it"}
	}
	var loss *store.LossError
	if errors.As(err, &loss) {
		return lossHints(loss)
	}
	if as[*archive.ParentError](err) {
		return []string{"give these volumes with --from as well, or send them through the pipe behind the others; --incomplete restores what there is"}
	}
	var gone *archive.GoneError
	if errors.As(err, &gone) {
		return []string{"'snapfs archive mark " + gone.Set + " --state retired' gives the set up; 'snapfs archive create' makes a new one"}
	}
	var missing *store.MissingError
	var corrupt *store.CorruptError
	if errors.As(err, &missing) || errors.As(err, &corrupt) {
		return []string{"only what needs these bytes is affected; other files and snapshots can be read"}
	}
	return nil
}

// errnoHint says what to do about what the operating system refuses.
func errnoHint(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run snapfs as a user who may do that, for instance as root"
	case errors.Is(err, syscall.EROFS):
		return "mount that file system for writing, or choose another place"
	case errors.Is(err, syscall.ENOTDIR):
		return "a file is where a directory should be: choose another place, or move the file away"
	}
	return ""
}
