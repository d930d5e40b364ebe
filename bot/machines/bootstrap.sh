# What a machine needs before an agent can run on it: Docker, its settings, and a firewall around the agents.
# For Debian and Ubuntu, with or without systemd. Safe to run again, also after a run that broke off anywhere.
# bash reads it from stdin, as root. Above it stand ALLOWED (address,port of private servers that agents may use) and
# FINGERPRINT, which changes with both.
set -euo pipefail
export LC_ALL=C.UTF-8

STAMP=/var/lib/baal/prepared
LOCK=/run/baal-bootstrap.lock
FIREWALL=/usr/local/sbin/baal-firewall
UNIT=/etc/systemd/system/baal-firewall.service
SETTINGS=/etc/docker/daemon.json
SOCKET=/var/run/docker.sock

# Docker's own choice of networks, 172.17.0.0/16 and up, lies in the pool of which Aleph's nodes give machines
# their address (172.16.0.0/12). A block of 10/8 cannot meet it, and this one is none that home routers (10.0, 10.1),
# clouds (10.128), Kubernetes (10.42, 10.96, 10.244) or VPNs (10.8) start with.
# icc: agents do not see each other. live-restore: they go on while Docker is updated.
WANTED='{
  "bip": "10.213.0.1/24",
  "default-address-pools": [{"base": "10.213.0.0/16", "size": 24}],
  "icc": false,
  "live-restore": true,
  "log-driver": "json-file",
  "log-opts": {"max-size": "10m", "max-file": "3"}
}'

say() { echo "$(date -u +%T) $*"; }

fail() {
  say "$*"
  exit 1
}

answers() { curl -sf -m 5 -o /dev/null --unix-socket "$SOCKET" http://localhost/_ping; }

is_prepared() {
  [ "$(cat "$STAMP" 2>/dev/null)" = "$FINGERPRINT" ] && answers && "$FIREWALL" check
}

# --- packages

# A fresh machine installs packages of its own while it boots. Docker may work all the same where that fails.
wait_for_first_boot() {
  command -v cloud-init >/dev/null || return 0
  say "waiting for cloud-init"
  local code=0
  timeout 300 cloud-init status --wait >/dev/null 2>&1 || code=$?
  # 2: it ended, with errors from which it recovered; 124: it takes too long, and may hold the lock that apt waits for.
  if [ "$code" != 0 ]; then say "cloud-init ended with code $code; going on"; fi
}

apt() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Acquire::Retries=3 "$@"
}

# Installing waits for dpkg's lock; nothing waits for that of the lists.
update_lists() {
  local said deadline=$((SECONDS + 300))
  until said=$(apt update 2>&1); do
    [[ $said == *"Could not get lock"* ]] && ((SECONDS < deadline)) || break
    sleep 2
  done
  echo "$said"
}

is_half_installed() {
  local status
  status=$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) || return 1
  [[ $status == half-* || $status == unpacked ]]
}

# What a run that was cut off has left: not configured, or in the middle of its files.
repair() {
  local cut_off
  say "completing what another run may have left half done"
  dpkg --configure -a || true
  cut_off=$(dpkg-query -W -f '${db:Status-Eflag} ${Package}\n' | awk '$1 == "reinstreq" {print $2}')
  # shellcheck disable=SC2086
  [ -z "$cut_off" ] || apt install --no-install-recommends --reinstall $cut_off
}

# By command, not by package: somebody's own server may have Docker from elsewhere.
missing() {
  if ! command -v dockerd >/dev/null || is_half_installed docker.io; then echo docker.io; fi
  command -v iptables >/dev/null || echo iptables
  command -v curl >/dev/null || echo curl
  command -v jq >/dev/null || echo jq
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  # Docker confines containers with it where the kernel has it.
  if [ -d /sys/module/apparmor ] && ! command -v apparmor_parser >/dev/null; then echo apparmor; fi
}

install_missing() {
  local packages
  packages=$(missing)
  [ -n "$packages" ] || return 0
  command -v apt-get >/dev/null || fail "no apt-get here; install by hand:" $packages
  say "installing" $packages
  update_lists
  # A package of its own since Debian 13, and only recommended.
  if [[ $packages == *docker.io* ]]; then
    packages+=" $(apt-cache --names-only search '^docker-cli$' | cut -d' ' -f1)"
  fi
  # shellcheck disable=SC2086
  apt install --no-install-recommends $packages || {
    repair
    apt install --no-install-recommends $packages
  }
}

# --- Docker

has_systemd() { [ -d /run/systemd/system ]; }

has_died() {
  if has_systemd; then systemctl -q is-failed docker; else ! pidof dockerd >/dev/null; fi
}

wait_for_docker() {
  for tries in $(seq 120); do
    if answers; then return 0; fi
    if ((tries > 6)) && has_died; then break; fi
    sleep 0.5
  done
  say "Docker does not answer at $SOCKET"
  if has_systemd; then journalctl -q -n 20 --no-pager -u docker; else tail -n 20 /var/log/docker.log; fi
  return 1
}

start_docker() {
  if answers; then return 0; fi
  say "starting Docker"
  if has_systemd; then systemctl enable -q --now docker; else service docker start; fi
  wait_for_docker
}

restart_docker() {
  # Told first, so that live-restore already counts: the containers go on.
  kill -HUP "$(cat /var/run/docker.pid)" && sleep 1
  if has_systemd; then systemctl restart docker; else service docker restart; fi
  wait_for_docker
}

# Before Docker is there, so that its first network is already the right one.
write_settings_of_a_fresh_machine() {
  [ ! -s "$SETTINGS" ] && ! command -v dockerd >/dev/null || return 0
  mkdir -p "${SETTINGS%/*}"
  echo "$WANTED" >"$SETTINGS"
}

ask_docker() { curl -sf -m 30 --unix-socket "$SOCKET" "http://localhost/$1"; }

# What is set already stays, but for icc. Containers that are there know the first network by its address, and a swarm
# cannot have live-restore.
merged_settings() {
  local left_out=.
  [ "$(ask_docker 'containers/json?all=true')" = '[]' ] || left_out+=' | del(.bip)'
  [ "$(ask_docker info | jq -r .Swarm.LocalNodeState)" != active ] || left_out+=' | del(."live-restore")'
  jq -s --argjson wanted "$WANTED" "(\$wanted | $left_out) * (.[0] // {}) * {icc: false}" "$SETTINGS"
}

merge_settings() {
  [ -e "$SETTINGS" ] || { mkdir -p "${SETTINGS%/*}" && echo '{}' >"$SETTINGS"; }
  merged_settings >"$SETTINGS.baal" || fail "$SETTINGS is not JSON that can be read: correct it"
  if [ "$(jq -S . "$SETTINGS.baal")" = "$(jq -S . "$SETTINGS")" ]; then
    rm "$SETTINGS.baal"
    return 0
  fi
  say "changing $SETTINGS; what it was is kept beside it"
  cp -p "$SETTINGS" "$SETTINGS.before-baal"
  cat "$SETTINGS.baal" >"$SETTINGS" && rm "$SETTINGS.baal"
  restart_docker || {
    cp -p "$SETTINGS.before-baal" "$SETTINGS"
    restart_docker || say "Docker does not start with its old settings either"
    fail "Docker does not start with the merged settings; $SETTINGS is as it was"
  }
}

# --- firewall

# Before Docker, and again whenever it is restarted: no agent runs a moment without it. Docker keeps what it finds in
# DOCKER-USER, and jumps there before all of its own rules.
install_firewall() {
  printf '#!/usr/bin/env bash\nALLOWED="%s"\n' "$ALLOWED" >"$FIREWALL.new"
  cat >>"$FIREWALL.new" <<'FIREWALL_END'
# What containers on docker0 may reach: the internet, the resolvers and what is ALLOWED; not this machine, not each
# other, no private or link-local address (a cloud's metadata). `baal-firewall check`: whether it is in force. Written
# by Baal.
set -euo pipefail

PRIVATE4="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16"
PRIVATE6="fe80::/10 fc00::/7"

has_ipv6() { [ -e /proc/net/if_inet6 ]; }

resolvers() { # $1: what their addresses contain
  local files
  files=$(ls /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null || true)
  {
    # shellcheck disable=SC2086
    [ -z "$files" ] || awk '$1 == "nameserver" {print $2}' $files
    jq -r '.dns[]?' /etc/docker/daemon.json 2>/dev/null
  } | sed 's/%.*//' | grep -F "$1" | grep -vE '^(127\.|::1$)' | sort -u || true
}

rules() { # $1: what addresses contain, $2: control messages, the rest: private networks
  local dot=$1 icmp=$2 address
  shift 2
  echo '*filter'
  echo ':BAAL-OUT - [0:0]'
  echo ':BAAL-IN - [0:0]'
  echo ':BAAL-NO - [0:0]'
  for chain in BAAL-OUT BAAL-IN; do
    echo "-A $chain -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN"
    for address in $(resolvers "$dot"); do
      echo "-A $chain -d $address -p udp --dport 53 -j RETURN"
      echo "-A $chain -d $address -p tcp --dport 53 -j RETURN"
    done
    for address in $ALLOWED; do
      [[ $address == *"$dot"* ]] || continue
      echo "-A $chain -d ${address%,*} -p tcp --dport ${address#*,} -j RETURN"
    done
  done
  echo '-A BAAL-OUT -o docker0 -j BAAL-NO'
  for network in "$@"; do echo "-A BAAL-OUT -d $network -j BAAL-NO"; done
  [ "$icmp" = none ] || echo "-A BAAL-IN -p $icmp -j RETURN"
  echo '-A BAAL-IN -j BAAL-NO'
  # Who connects learns it at once; after the other refusal Linux tries for another second.
  echo '-A BAAL-NO -p tcp -j REJECT --reject-with tcp-reset'
  echo '-A BAAL-NO -j REJECT'
  echo COMMIT
}

first() { # $1: iptables or ip6tables, $2: chain, the rest: a rule; have it as the chain's first
  local tables=$1 chain=$2
  shift 2
  [ "$("$tables" -w 10 -S "$chain" | sed -n 2p)" = "-A $chain $*" ] || "$tables" -w 10 -I "$chain" 1 "$@"
}

apply() { # $1: iptables or ip6tables, the rest: as for rules
  local tables=$1
  shift
  rules "$@" | "$tables-restore" -w 10 --noflush
  "$tables" -w 10 -N DOCKER-USER 2>/dev/null || true
  "$tables" -w 10 -C FORWARD -j DOCKER-USER 2>/dev/null || "$tables" -w 10 -I FORWARD 1 -j DOCKER-USER
  first "$tables" DOCKER-USER -i docker0 -j BAAL-OUT
  first "$tables" INPUT -i docker0 -j BAAL-IN
}

is_applied() { # $1: iptables or ip6tables, the rest: as for rules
  local tables=$1 wanted
  shift
  wanted=$(rules "$@" | grep -c '^-A')
  [ "$("$tables" -w 10 -S | grep -cE '^-A BAAL-(OUT|IN|NO) ')" = "$wanted" ] &&
    "$tables" -w 10 -C FORWARD -j DOCKER-USER && "$tables" -w 10 -C DOCKER-USER -i docker0 -j BAAL-OUT &&
    "$tables" -w 10 -C INPUT -i docker0 -j BAAL-IN
}

work=apply
[ "${1:-}" != check ] || work=is_applied
# shellcheck disable=SC2086
"$work" iptables . none $PRIVATE4
# shellcheck disable=SC2086
! has_ipv6 || "$work" ip6tables : ipv6-icmp $PRIVATE6
FIREWALL_END
  chmod 755 "$FIREWALL.new"
  mv "$FIREWALL.new" "$FIREWALL"
}

install_unit() {
  has_systemd || return 0
  cat >"$UNIT" <<'UNIT_END'
[Unit]
Description=What agents in containers may reach (Baal)
After=network-online.target
Wants=network-online.target
Before=docker.service
PartOf=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/baal-firewall

[Install]
WantedBy=docker.service
UNIT_END
  systemctl daemon-reload
  systemctl enable -q baal-firewall
}

guard() {
  say "applying the firewall"
  install_firewall
  install_unit
  "$FIREWALL"
}

main() {
  if is_prepared; then return 0; fi
  rm -f "$STAMP" # should this one break off, what it changed is not taken for what was there before
  wait_for_first_boot
  write_settings_of_a_fresh_machine
  install_missing
  guard
  start_docker
  merge_settings
  "$FIREWALL" check || "$FIREWALL"
  mkdir -p "${STAMP%/*}"
  echo "$FINGERPRINT" >"$STAMP"
  say "prepared"
}

[ "$(id -u)" = 0 ] || fail "must be root"
# One at a time. Nobody below inherits the lock (a daemon would keep it), or reads this script as its input.
{
  flock -w 900 9 || fail "another preparation does not end"
  main 9>&- </dev/null
  exit
} 9>"$LOCK"
