# Net::POP3 as a mail program that leaves mail on the server: `perl poll.pl SETTINGS`.
#
# SETTINGS is JSON: host, port, security, ca_file, user, password, store, seen. Each new mail goes
# into a file of its own in `store`, the UIDLs of all so far into the file `seen`.
use strict;
use warnings;
use IO::Socket::SSL ();
use JSON::PP ();
use Net::POP3 ();

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$file>;
}

my $set = JSON::PP::decode_json(slurp($ARGV[0]));
my %tls = (
    SSL_ca_file         => $set->{ca_file},
    SSL_verify_mode     => IO::Socket::SSL::SSL_VERIFY_PEER(),
    SSL_verifycn_scheme => 'pop3',
    SSL_verifycn_name   => $set->{host},
);
my $implicit = $set->{security} eq 'implicit';
my $pop = Net::POP3->new(
    $set->{host},
    Port    => $set->{port},
    Timeout => 60,
    $implicit ? (SSL => 1, %tls) : (),
) or die "connect: $@\n";
if ($set->{security} eq 'starttls') {
    $pop->starttls(%tls) or die 'starttls: ' . $pop->message . IO::Socket::SSL::errstr() . "\n";
}
defined $pop->login($set->{user}, $set->{password}) or die 'login: ' . $pop->message;

my %seen = map { $_ => 1 } -e $set->{seen} ? split(/\n/, slurp($set->{seen})) : ();
my $uidl = $pop->uidl or die 'UIDL: ' . $pop->message;
for my $number (sort { $a <=> $b } keys %$uidl) {
    next if $seen{ $uidl->{$number} };
    my $lines = $pop->get($number) or die "RETR $number: " . $pop->message;
    my $path = sprintf '%s/%06d', $set->{store}, scalar keys %seen;
    open my $file, '>:raw', $path or die "$path: $!\n";
    print {$file} @$lines;
    close $file or die "$path: $!\n";
    $seen{ $uidl->{$number} } = 1;
}
$pop->quit or die 'QUIT: ' . $pop->message;
open my $file, '>:raw', $set->{seen} or die "$set->{seen}: $!\n";
print {$file} map { "$_\n" } sort keys %seen;
close $file or die "$set->{seen}: $!\n";
