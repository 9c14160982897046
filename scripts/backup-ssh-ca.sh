#!/bin/bash
# Keeps sealed copies of the SSH authorities' keys and the anchors, and removes the oldest of its own:
#
#   scripts/backup-ssh-ca.sh [DIRECTORY]     /var/backups/warren if nothing is said
#
# From the environment, as /etc/warren/backup.env has it for the timer:
#   WARREN_BACKUP_RECIPIENT    age1…, as `warren backup key` prints it; or
#   WARREN_BACKUP_PASSPHRASE   sixteen characters at least
#   WARREN_BACKUP_KEEP         how many copies stay; 30 if nothing is said
#   WARREN_BACKUP_CONTENT      `ssh-ca`, or `everything`
#
# Ends with what `warren backup create` ends with: 0 done, 3 refused, 4 nobody answers, 7 made, but without the hub's key.
# A copy appears under its name when all of it is on the disk; nothing is removed unless a new one is there.
set -euo pipefail
umask 077

folder=${1:-/var/backups/warren}
content=${WARREN_BACKUP_CONTENT:-ssh-ca}
keep=${WARREN_BACKUP_KEEP:-30}
only=() seal=()
case $content in
ssh-ca) only=(--only ssh-ca) ;;
everything) ;;
*)
    echo "backup-ssh-ca: WARREN_BACKUP_CONTENT is ssh-ca or everything, not $content" >&2
    exit 2
    ;;
esac
[[ $keep =~ ^[1-9][0-9]{0,3}$ ]] || {
    echo "backup-ssh-ca: WARREN_BACKUP_KEEP is a number from 1 to 9999, not $keep" >&2
    exit 2
}
if [ -n "${WARREN_BACKUP_RECIPIENT:-}" ]; then
    seal=(--recipient "$WARREN_BACKUP_RECIPIENT")
elif [ -z "${WARREN_BACKUP_PASSPHRASE:-}" ]; then
    echo "backup-ssh-ca: set WARREN_BACKUP_RECIPIENT or WARREN_BACKUP_PASSPHRASE in /etc/warren/backup.env;" \
        "warren backup key FILE makes a key" >&2
    exit 2
fi

mkdir -p "$folder"
file=$folder/warren-$content-$(date -u +%Y%m%dT%H%M%SZ).age
# Written beside, synced and renamed by the program itself.
code=0
warren backup create --to "$file" "${only[@]}" "${seal[@]}" || code=$?
[ "$code" = 0 ] || [ "$code" = 7 ] || exit "$code"

# Names are dates: the last ones are the newest.
mapfile -t copies < <(find "$folder" -maxdepth 1 -type f -name "warren-$content-*Z.age" | sort)
for ((at = 0; at < ${#copies[@]} - keep; at++)); do
    rm -f -- "${copies[at]}"
done
exit "$code"
