# Net::POP3 as a mail program that leaves mail on the server: `ruby poll.rb SETTINGS`.
#
# SETTINGS is JSON: host, port, security, ca_file, user, password, store, seen. Each new mail goes
# into a file of its own in `store`, the UIDLs of all so far into the file `seen`.
require 'json'
require 'net/pop'
require 'openssl'

set = JSON.parse(File.read(ARGV[0]))
seen = File.exist?(set['seen']) ? File.readlines(set['seen'], chomp: true) : []
pop = Net::POP3.new(set['host'], set['port'])
if set['security'] == 'implicit'
  pop.enable_ssl({ verify_mode: OpenSSL::SSL::VERIFY_PEER, ca_file: set['ca_file'] })
end
pop.start(set['user'], set['password']) do |session|
  session.each_mail do |mail|
    next if seen.include?(mail.unique_id)
    File.binwrite(File.join(set['store'], format('%06d', seen.size)), mail.pop)
    seen << mail.unique_id
  end
end
File.write(set['seen'], seen.map { |uid| "#{uid}\n" }.join)
